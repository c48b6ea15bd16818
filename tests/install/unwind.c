/* A callback can see the stack through the library down to main: the tables for unwinding, which
 * the library itself needs to contain its own defects, are whole. So are those of another library
 * in Rust in the same program, if there is one (-DOTHER_RUST).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <flowmesh.h>
#include <stdio.h>
#include <string.h>

#ifdef OTHER_RUST
int other_catches_a_panic(void);
#endif

static void on_set(flowmesh_error_t *error, void *user_data)
{
    void *frames[128];
    int count = backtrace(frames, 128);
    for (int i = 0; i < count; i++) {
        Dl_info info;
        if (dladdr(frames[i], &info) && info.dli_sname && strcmp(info.dli_sname, "main") == 0)
            *(int *)user_data = error ? -1 : 1;
    }
    flowmesh_error_free(error);
}

int main(void)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_options_t *options = NULL;
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("key");
    size_t ran = 0;
    int seen = 0;

    if (flowmesh_client_options_new(&options, &error) ||
        flowmesh_dispatcher_new(0, &dispatcher, &error) ||
        flowmesh_client_options_set_dispatcher(options, dispatcher, &error) ||
        flowmesh_client_open("embedded:", options, &client, &error) ||
        flowmesh_kv_open(client, "acme", "shop", "things", &kv, &error) ||
        flowmesh_kv_set_async(kv, key, flowmesh_view_str("x"), NULL, on_set, &seen, NULL, NULL,
                              &error) ||
        flowmesh_dispatcher_run(dispatcher, 0, -1, &ran, &error))
        fprintf(stderr, "%s\n", flowmesh_error_message(error));
    else if (ran != 1 || seen != 1)
        fprintf(stderr, "%zu callbacks ran, main seen: %d\n", ran, seen);
    flowmesh_error_free(error);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
    flowmesh_client_options_free(options);
    flowmesh_dispatcher_free(dispatcher);
#ifdef OTHER_RUST
    if (!other_catches_a_panic())
        return 1;
#endif
    return seen != 1;
}
