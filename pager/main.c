#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "exit_status.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *purpose;
} commands[] = {
    {"serve", cmd_serve, "give the pages of a paused guest on this host (the source) to a receiver"},
    {"receive", cmd_receive, "run a restored guest on this host (the destination) on pages from the source"},
    {"join", cmd_join, "the destination's end of the channel that serve opens (run by serve, there)"},
    {"activate", cmd_activate, "tell a receive that was started early that the guest has been sent"},
    {"commit", cmd_commit, "tell a session that the guest runs at the destination from now on"},
    {"abort", cmd_abort, "end this host's part of a migration, and remove its files"},
    {"recover", cmd_recover, "have a session whose channels are lost go on at once"},
    {"abandon", cmd_abandon, "end a paused serve although pages are missing at the destination"},
    {"probe", cmd_probe, "say whether this host, or a domain on it, can be paged"},
    {"status", cmd_status, "show the sessions on this host, or wait for a state"},
    {"trace", cmd_trace, "print what receive has recorded with --trace"},
};

static void usage(FILE *out)
{
    fprintf(out, "Usage: xenpaging-pc COMMAND [OPTION...]\n\n"
                 "Post-copy paging of Xen guests between two hosts.\n\nCommands:\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].purpose);
    fprintf(out, "\nxenpaging-pc COMMAND --help says more; xenpaging-pc(8) has it all.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("xenpaging-pc %s\n", XENPAGING_PC_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "xenpaging-pc: no command '%s'\n", argv[1]);
    usage(stderr);
    return EXIT_USAGE;
}
