# What xenpaging-pc is made of, for this folder's Makefile and for the unit tests.
PAGER_CORE := core/gfn_bitmap.c core/latency.c core/pace.c core/pagein.c core/push_order.c core/push_pages.c \
	core/push_policy.c core/push_streams.c core/run_hash.c core/session.c
PAGER_WIRE := wire/decode.c wire/encode.c wire/frame_reader.c wire/judge.c wire/rules.c
PAGER_SESSION := backend_batch.c channel.c child.c custody.c daemon.c log.c net.c pool.c run_dir.c session_find.c session_run.c \
	set_file.c status_server.c token.c trace.c join.c oom.c paging_features.c sandbox.c
PAGER_FEEDER := feeder.c feeder_bulk.c feeder_frames.c feeder_orders.c
PAGER_RECEIVE := keeper.c receive.c receive_collapse.c receive_commit.c receive_early.c receive_end.c \
	receive_journal.c receive_link.c receive_mark.c receive_pages.c receive_recover.c receive_report.c receive_set.c \
	receive_super.c receive_takeover.c receive_trace.c receive_verify.c
PAGER_SERVE := serve.c serve_commit.c serve_end.c serve_recover.c serve_report.c serve_scan.c serve_sender.c serve_switch.c \
	serve_transport.c
PAGER_SENDER := map_cache.c sender.c sender_bulk.c sender_frames.c sender_listen.c sender_pages.c sender_urgent.c
PAGER_XEN := backend_xen.c xen_domain.c xen_paging_ops.c xen_ring.c
PAGER_COMMANDS := main.c cmd_commit.c cmd_join.c cmd_probe.c cmd_receive.c cmd_recover.c cmd_serve.c cmd_status.c cmd_trace.c \
	session_options.c

# Everything that runs without Xen.
PAGER_PORTABLE := $(PAGER_CORE) $(PAGER_WIRE) $(PAGER_SESSION) $(PAGER_FEEDER) $(PAGER_RECEIVE) $(PAGER_SERVE) $(PAGER_SENDER)

# Xen's public headers need GNU C (anonymous unions, asm).
PAGER_CFLAGS := -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
PAGER_LIBS := -lev -ljansson -lxxhash -lseccomp
PAGER_XEN_LIBS := -lxenctrl -lxencall -lxenevtchn -lxenforeignmemory -lxenstore
