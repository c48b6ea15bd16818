/* Key-value stores. */
#include "test.h"

static void a_value_is_kept_replaced_and_deleted(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_error_t *error = NULL;
    flowmesh_value_t *value = NULL;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("k");
    bool exists = true;
    (void)state;
    OK(flowmesh_kv_exists(kv, key, NULL, &exists, &error));
    assert_false(exists);
    OK(flowmesh_kv_delete(kv, key, NULL, &error)); /* not there: no failure */
    OK(flowmesh_kv_set(kv, key, flowmesh_view_str("one"), NULL, &error));
    OK(flowmesh_kv_set(kv, key, flowmesh_view_bytes("t\0o", 3), NULL, &error));
    OK(flowmesh_kv_exists(kv, key, NULL, &exists, &error));
    assert_true(exists);
    OK(flowmesh_kv_get(kv, key, NULL, &value, &error));
    assert_int_equal(flowmesh_value_data(value).len, 3);
    assert_memory_equal(flowmesh_value_data(value).data, "t\0o", 3);
    flowmesh_value_free(value);
    value = NULL;
    OK(flowmesh_kv_delete(kv, key, NULL, &error));
    FAILS(FLOWMESH_NOT_FOUND, "acme/test/kv/", flowmesh_kv_get(kv, key, NULL, &value, &error));
    assert_null(value);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
}

static void keys_are_listed_in_byte_order(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_error_t *error = NULL;
    flowmesh_key_list_t *keys = NULL;
    const char *const names[] = {"b", "a/2", "a/10", "a"};
    flowmesh_view_t all = FLOWMESH_VIEW_INIT;
    (void)state;
    for (size_t i = 0; i < 4; i++)
        OK(flowmesh_kv_set(kv, flowmesh_view_str(names[i]), flowmesh_view_str("v"), NULL, &error));
    OK(flowmesh_kv_list_keys(kv, flowmesh_view_str("a/"), NULL, &keys, &error));
    assert_int_equal(flowmesh_key_list_count(keys), 2);
    check_view(flowmesh_key_list_at(keys, 0), "a/10");
    check_view(flowmesh_key_list_at(keys, 1), "a/2");
    assert_int_equal(flowmesh_key_list_at(keys, 2).len, 0);
    flowmesh_key_list_free(keys);
    OK(flowmesh_kv_list_keys(kv, all, NULL, &keys, &error));
    assert_int_equal(flowmesh_key_list_count(keys), 4);
    flowmesh_key_list_free(keys);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
}

static void values_expire_by_the_clock(void **state)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_set_options_t ttl = FLOWMESH_SET_OPTIONS_INIT;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("k");
    bool exists = false;
    (void)state;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_test_clock(options, true, &error));
    OK(flowmesh_client_open("embedded:", options, &client, &error));
    flowmesh_client_options_free(options);
    flowmesh_kv_t *kv = open_kv(client);
    ttl.ttl_ms = 1; /* counts as 1 s, never as for ever */
    OK(flowmesh_kv_set(kv, key, flowmesh_view_str("v"), &ttl, &error));
    OK(flowmesh_test_clock_advance(client, 999, &error));
    OK(flowmesh_kv_exists(kv, key, NULL, &exists, &error));
    assert_true(exists);
    OK(flowmesh_test_clock_advance(client, 1, &error));
    OK(flowmesh_kv_exists(kv, key, NULL, &exists, &error));
    assert_false(exists);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
}

static void a_null_result_is_empty(void **state)
{
    (void)state;
    assert_int_equal(flowmesh_value_data(NULL).len, 0);
    assert_int_equal(flowmesh_key_list_count(NULL), 0);
    assert_int_equal(flowmesh_key_list_at(NULL, 0).len, 0);
}

static void values_survive_their_client(void **state)
{
    char directory[] = "/tmp/flowmesh-kv-XXXXXX";
    char endpoint[64];
    flowmesh_error_t *error = NULL;
    flowmesh_value_t *value = NULL;
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(endpoint, sizeof(endpoint), "embedded:%s/data", directory);
    for (int round = 0; round < 2; round++) {
        flowmesh_client_t *client = NULL;
        flowmesh_kv_t *kv = NULL;
        OK(flowmesh_client_open(endpoint, NULL, &client, &error));
        OK(flowmesh_kv_open(client, "acme", "test", "kv", &kv, &error));
        if (round == 0)
            OK(flowmesh_kv_set(kv, flowmesh_view_str("k"), flowmesh_view_str("v"), NULL, &error));
        else
            OK(flowmesh_kv_get(kv, flowmesh_view_str("k"), NULL, &value, &error));
        OK(flowmesh_client_close(client, PATIENCE_MS, &error));
        flowmesh_kv_free(kv);
        flowmesh_client_free(client);
    }
    check_view(flowmesh_value_data(value), "v");
    flowmesh_value_free(value);
    char command[80];
    snprintf(command, sizeof(command), "rm -r %s", directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_kept_replaced_and_deleted),
        cmocka_unit_test(keys_are_listed_in_byte_order),
        cmocka_unit_test(values_expire_by_the_clock),
        cmocka_unit_test(a_null_result_is_empty),
        cmocka_unit_test(values_survive_their_client),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
