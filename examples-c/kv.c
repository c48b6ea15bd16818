/* Key-value storage: set, get, list, expire, delete.
 *
 *     kv [ENDPOINT]
 */
#include <flowmesh.h>
#include <stdio.h>

static flowmesh_status_t set(flowmesh_kv_t *kv, const char *key, const char *value, int64_t ttl_ms,
                             flowmesh_error_t **error)
{
    flowmesh_set_options_t options = FLOWMESH_SET_OPTIONS_INIT;
    options.ttl_ms = ttl_ms;
    return flowmesh_kv_set(kv, flowmesh_view_str(key), flowmesh_view_str(value), &options, error);
}

static flowmesh_status_t show(flowmesh_kv_t *kv, const char *key, flowmesh_error_t **error)
{
    flowmesh_value_t *value = NULL;
    flowmesh_status_t status = flowmesh_kv_get(kv, flowmesh_view_str(key), NULL, &value, error);
    if (status == FLOWMESH_OK) {
        printf("%s = " FLOWMESH_VIEW_FMT "\n", key, FLOWMESH_VIEW_ARG(flowmesh_value_data(value)));
    } else if (status == FLOWMESH_NOT_FOUND) {
        printf("%s is not there\n", key);
        if (error != NULL) {
            flowmesh_error_free(*error);
            *error = NULL;
        }
        status = FLOWMESH_OK;
    }
    flowmesh_value_free(value);
    return status;
}

static flowmesh_status_t list(flowmesh_kv_t *kv, const char *prefix, flowmesh_error_t **error)
{
    flowmesh_key_list_t *keys = NULL;
    flowmesh_status_t status =
        flowmesh_kv_list_keys(kv, flowmesh_view_str(prefix), NULL, &keys, error);
    printf("keys under %s:", prefix);
    for (size_t i = 0; i < flowmesh_key_list_count(keys); i++)
        printf(" " FLOWMESH_VIEW_FMT, FLOWMESH_VIEW_ARG(flowmesh_key_list_at(keys, i)));
    putchar('\n');
    flowmesh_key_list_free(keys);
    return status;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_view_t gone = FLOWMESH_VIEW_LITERAL("price/tea");
    bool exists = true;

    flowmesh_status_t status =
        flowmesh_client_open(argc > 1 ? argv[1] : NULL, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_kv_open(client, "demo", "cafe", "prices", &kv, &error);
    if (status == FLOWMESH_OK)
        status = set(kv, "price/espresso", "2.20", 0, &error);
    if (status == FLOWMESH_OK)
        status = set(kv, "price/tea", "1.90", 0, &error);
    if (status == FLOWMESH_OK)
        status = set(kv, "offer/today", "cake", 3600 * 1000, &error); /* for an hour */
    if (status == FLOWMESH_OK)
        status = show(kv, "price/espresso", &error);
    if (status == FLOWMESH_OK)
        status = show(kv, "price/moonshine", &error);
    if (status == FLOWMESH_OK)
        status = list(kv, "price/", &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_kv_delete(kv, gone, NULL, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_kv_exists(kv, gone, NULL, &exists, &error);
    if (status == FLOWMESH_OK)
        printf("price/tea %s\n", exists ? "is still there" : "is gone");
    else
        fprintf(stderr, "kv: %s\n", flowmesh_error_message(error));
    flowmesh_error_free(error);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
    return status == FLOWMESH_OK ? 0 : 1;
}
