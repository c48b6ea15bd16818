/* A program as somebody has it who installed the library: C11 and C++17.
 *
 *     program ENDPOINT
 */
#include <flowmesh.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_kv_t *colours = NULL;
    flowmesh_value_t *value = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("sky");
    int failed = 1;

    if (argc != 2 || strcmp(flowmesh_version(), FLOWMESH_VERSION_STRING) != 0)
        fprintf(stderr, "compiled for %s, linked with %s\n", FLOWMESH_VERSION_STRING,
                flowmesh_version());
    else if (flowmesh_client_open(argv[1], NULL, &client, &error) ||
             flowmesh_kv_open(client, "acme", "shop", "colours", &colours, &error) ||
             flowmesh_kv_set(colours, key, flowmesh_view_str("blue"), NULL, &error) ||
             flowmesh_kv_get(colours, key, NULL, &value, &error))
        fprintf(stderr, "%s\n", flowmesh_error_message(error));
    else
        failed = printf("sky = " FLOWMESH_VIEW_FMT "\n",
                        FLOWMESH_VIEW_ARG(flowmesh_value_data(value))) < 0;
    flowmesh_error_free(error);
    flowmesh_value_free(value);
    flowmesh_kv_free(colours);
    flowmesh_client_free(client);
    return failed;
}
