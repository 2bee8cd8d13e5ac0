/* The sub-commands. Each gets its own argv (argv[0] is its name) and returns an exit status. */
#ifndef XENPAGING_PC_COMMANDS_H
#define XENPAGING_PC_COMMANDS_H

#ifndef XENPAGING_PC_VERSION
#define XENPAGING_PC_VERSION "0.1"
#endif

int cmd_serve(int argc, char **argv);
int cmd_receive(int argc, char **argv);
int cmd_join(int argc, char **argv);
int cmd_abandon(int argc, char **argv);
int cmd_activate(int argc, char **argv);
int cmd_commit(int argc, char **argv);
int cmd_abort(int argc, char **argv);
int cmd_probe(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_trace(int argc, char **argv);

#endif
