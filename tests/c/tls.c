/* TLS and tokens: whom a client trusts, what it shows, what it refuses to do and how it says so.
 * Runs against servers of its own, with certificates that `openssl` makes. The whole program has
 * SIGPIPE at its default, which would end it.
 */
#include "peers.h"

/* A server with TLS that knows one token and wants clients with a certificate. */
struct secure {
    char directory[32];
    char endpoint[128];
    struct peer server;
};

/* Runs a shell command in the house's directory. */
static void run(const struct secure *house, const char *command)
{
    char line[768];
    snprintf(line, sizeof(line), "cd %s && %s", house->directory, command);
    assert_int_equal(system(line), 0);
}

static const char *in(const struct secure *house, const char *name)
{
    static char paths[4][96];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", house->directory, name);
    return path;
}

#define NEW_KEY "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 2>/dev/null"
#define NO_AUTHORITY "-addext basicConstraints=critical,CA:FALSE"

static int begin(void **state)
{
    static struct secure house;
    memset(&house, 0, sizeof(house));
    make_directory(house.directory);
    run(&house, "openssl req -x509 -subj /CN=authority -keyout ca.key -out ca.pem " NEW_KEY);
    run(&house, "openssl req -x509 -CA ca.pem -CAkey ca.key -subj /CN=server " NO_AUTHORITY
                " -addext subjectAltName=DNS:localhost,DNS:flowmesh.test -keyout server.key"
                " -out server.pem " NEW_KEY);
    run(&house, "openssl req -x509 -CA ca.pem -CAkey ca.key -subj /CN=client " NO_AUTHORITY
                " -keyout client.key -out client.pem " NEW_KEY);
    run(&house, "$FLOWMESH_SERVER token new --tenant acme --permission kv.read kv.write >made &&"
                " sed -n '/\\[\\[token\\]\\]/,$p' made >tokens.toml &&"
                " grep -o 'fm_[0-9a-f]*' made >token");
    char cert[96], key[96], ca[96], tokens[96], data[96];
    snprintf(cert, sizeof(cert), "%s", in(&house, "server.pem"));
    snprintf(key, sizeof(key), "%s", in(&house, "server.key"));
    snprintf(ca, sizeof(ca), "%s", in(&house, "ca.pem"));
    snprintf(tokens, sizeof(tokens), "%s", in(&house, "tokens.toml"));
    snprintf(data, sizeof(data), "%s", in(&house, "data"));
    const char *arguments[] = {getenv("FLOWMESH_SERVER"),
                               "--listen",
                               "127.0.0.1:0",
                               "--data-dir",
                               data,
                               "--tls-cert",
                               cert,
                               "--tls-key",
                               key,
                               "--tls-client-ca",
                               ca,
                               "--tokens",
                               tokens,
                               NULL};
    house.server = start_peer(arguments, STDERR_FILENO, "listening on");
    snprintf(house.endpoint, sizeof(house.endpoint), "https://localhost%s",
             strchr(house.server.address, ':'));
    *state = &house;
    return 0;
}

static int end(void **state)
{
    struct secure *house = (struct secure *)*state;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    kill_peer(&house->server);
    remove_directory(house->directory);
    return 0;
}

/* Options that get a client in, by files. */
static flowmesh_client_options_t *all_files(const struct secure *house)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_tls_ca_file(options, in(house, "ca.pem"), &error));
    OK(flowmesh_client_options_set_tls_certificate_file(options, in(house, "client.pem"),
                                                        in(house, "client.key"), &error));
    OK(flowmesh_client_options_set_auth_token_file(options, in(house, "token"), &error));
    return options;
}

static flowmesh_client_t *open_with(const char *endpoint, const flowmesh_client_options_t *options)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_open(endpoint, options, &client, &error));
    return client;
}

static flowmesh_status_t set_one(const flowmesh_client_t *client, flowmesh_error_t **error)
{
    flowmesh_error_t *local = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_status_t status = flowmesh_kv_open(client, "acme", "test", "kv", &kv, &local);
    assert_int_equal(status, FLOWMESH_OK);
    status =
        flowmesh_kv_set(kv, FLOWMESH_VIEW_LITERAL("k"), FLOWMESH_VIEW_LITERAL("v"), NULL, error);
    flowmesh_kv_free(kv);
    return status;
}

/* More than TLS puts into one record, and than is sent at once. */
static void many_records_there_and_back(const flowmesh_client_t *client)
{
    static char value[300000];
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (char)(i % 251);
    flowmesh_error_t *error = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_value_t *got = NULL;
    OK(flowmesh_kv_open(client, "acme", "test", "kv", &kv, &error));
    OK(flowmesh_kv_set(kv, FLOWMESH_VIEW_LITERAL("large"),
                       flowmesh_view_bytes(value, sizeof(value)), NULL, &error));
    OK(flowmesh_kv_get(kv, FLOWMESH_VIEW_LITERAL("large"), NULL, &got, &error));
    flowmesh_view_t view = flowmesh_value_data(got);
    assert_int_equal(view.len, sizeof(value));
    assert_memory_equal(view.data, value, sizeof(value));
    flowmesh_value_free(got);
    flowmesh_kv_free(kv);
}

static void files_get_a_client_in(void **state)
{
    const struct secure *house = (const struct secure *)*state;
    flowmesh_client_options_t *options = all_files(house);
    flowmesh_client_t *client = open_with(house->endpoint, options);
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_connect(client, PATIENCE_MS, &error));
    OK(set_one(client, &error));
    many_records_there_and_back(client);
    flowmesh_client_free(client);
    flowmesh_client_options_free(options);
}

static flowmesh_view_t contents(const struct secure *house, const char *name, char *buffer,
                                size_t size)
{
    FILE *file = fopen(in(house, name), "r");
    assert_non_null(file);
    size_t count = fread(buffer, 1, size, file);
    fclose(file);
    assert_true(count > 0 && count < size);
    return flowmesh_view_bytes(buffer, count);
}

static void so_does_pem_from_memory(void **state)
{
    const struct secure *house = (const struct secure *)*state;
    static char ca[8192], cert[8192], key[8192], token[256];
    flowmesh_client_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_tls_ca_pem(options, contents(house, "ca.pem", ca, sizeof(ca)),
                                              &error));
    OK(flowmesh_client_options_set_tls_certificate_pem(
        options, contents(house, "client.pem", cert, sizeof(cert)),
        contents(house, "client.key", key, sizeof(key)), &error));
    contents(house, "token", token, sizeof(token) - 1);
    token[strcspn(token, "\n")] = '\0';
    OK(flowmesh_client_options_set_auth_token(options, token, &error));
    memset(ca, 0, sizeof(ca)); /* all was copied */
    memset(cert, 0, sizeof(cert));
    memset(key, 0, sizeof(key));
    memset(token, 0, sizeof(token));
    flowmesh_client_t *client = open_with(house->endpoint, options);
    OK(set_one(client, &error));
    flowmesh_client_free(client);
    flowmesh_client_options_free(options);
}

static void so_does_the_environment(void **state)
{
    const struct secure *house = (const struct secure *)*state;
    flowmesh_error_t *error = NULL;
    setenv("FLOWMESH_TLS_CA_FILE", in(house, "ca.pem"), 1);
    setenv("FLOWMESH_TLS_CERT_FILE", in(house, "client.pem"), 1);
    setenv("FLOWMESH_TLS_KEY_FILE", in(house, "client.key"), 1);
    setenv("FLOWMESH_TLS_SERVER_NAME", "flowmesh.test", 1);
    setenv("FLOWMESH_AUTH_TOKEN_FILE", in(house, "token"), 1);
    setenv("FLOWMESH_ENDPOINT", house->endpoint, 1);
    flowmesh_client_t *client = open_with(NULL, NULL);
    OK(set_one(client, &error));
    flowmesh_client_free(client);
    /* The engine inside takes no token, and no notice of that either. */
    client = open_with("embedded:", NULL);
    OK(set_one(client, &error));
    flowmesh_client_free(client);
    unsetenv("FLOWMESH_TLS_KEY_FILE");
    FAILS(FLOWMESH_INVALID_ARGUMENT, "FLOWMESH_TLS_KEY_FILE",
          flowmesh_client_open(NULL, NULL, &client, &error));
    unsetenv("FLOWMESH_TLS_CA_FILE");
    unsetenv("FLOWMESH_TLS_CERT_FILE");
    unsetenv("FLOWMESH_TLS_SERVER_NAME");
    unsetenv("FLOWMESH_AUTH_TOKEN_FILE");
    unsetenv("FLOWMESH_ENDPOINT");
}

/* With `options`, nobody gets in, and `text` says why. */
static void refused(const char *endpoint, const flowmesh_client_options_t *options,
                    flowmesh_status_t status, const char *text)
{
    flowmesh_client_t *client = open_with(endpoint, options);
    flowmesh_error_t *error = NULL;
    FAILS(status, text, set_one(client, &error));
    flowmesh_client_free(client);
}

static void what_is_missing_is_named(void **state)
{
    const struct secure *house = (const struct secure *)*state;
    flowmesh_client_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_options_new(&options, &error));
    refused(house->endpoint, options, FLOWMESH_UNAVAILABLE, "tru"); /* only the system's */
    OK(flowmesh_client_options_set_tls_ca_file(options, in(house, "none.pem"), &error));
    refused(house->endpoint, options, FLOWMESH_UNAVAILABLE, "none.pem");
    OK(flowmesh_client_options_set_tls_ca_file(options, in(house, "ca.pem"), &error));
    refused(house->endpoint, options, FLOWMESH_UNAVAILABLE, "asks for a client certificate");
    OK(flowmesh_client_options_set_tls_certificate_file(options, in(house, "client.pem"),
                                                        in(house, "server.key"), &error));
    refused(house->endpoint, options, FLOWMESH_UNAVAILABLE, "does not belong to its private key");
    OK(flowmesh_client_options_set_tls_certificate_file(options, in(house, "client.pem"),
                                                        in(house, "client.key"), &error));
    refused(house->endpoint, options, FLOWMESH_UNAUTHENTICATED, "token");
    OK(flowmesh_client_options_set_auth_token(options, "fm_wrong", &error));
    refused(house->endpoint, options, FLOWMESH_UNAUTHENTICATED, "token");
    OK(flowmesh_client_options_set_auth_token_file(options, in(house, "none"), &error));
    refused(house->endpoint, options, FLOWMESH_FAILED_PRECONDITION, "auth_token_file");
    OK(flowmesh_client_options_set_auth_token_file(options, in(house, "token"), &error));
    OK(flowmesh_client_options_set_tls_server_name(options, "elsewhere.test", &error));
    refused(house->endpoint, options, FLOWMESH_UNAVAILABLE, "not for elsewhere.test");
    OK(flowmesh_client_options_set_tls_server_name(options, "flowmesh.test", &error));
    flowmesh_client_t *client = open_with(house->endpoint, options);
    OK(set_one(client, &error));
    flowmesh_client_free(client);
    flowmesh_client_options_free(options);
}

static void tls_and_clear_text_do_not_meet(void **state)
{
    const struct secure *house = (const struct secure *)*state;
    flowmesh_client_options_t *options = all_files(house);
    char plain[32];
    char endpoint[128];
    make_directory(plain);
    struct peer server = start_server("127.0.0.1:0", plain);
    snprintf(endpoint, sizeof(endpoint), "https://%s", server.address);
    refused(endpoint, options, FLOWMESH_UNAVAILABLE, "does not speak TLS");
    refused(house->server.address, NULL, FLOWMESH_UNAVAILABLE, "speaks TLS");
    flowmesh_client_options_free(options);
    kill_peer(&server);
    remove_directory(plain);
}

/* A proxy resets the connection over and over, in the handshake too, and writes meet it. */
static void resets_raise_no_sigpipe(void **state)
{
    const struct secure *house = (const struct secure *)*state;
    flowmesh_client_options_t *options = all_files(house);
    flowmesh_error_t *error = NULL;
    struct peer proxy = start_proxy(house->server.address);
    char endpoint[128];
    snprintf(endpoint, sizeof(endpoint), "https://localhost%s", strchr(proxy.address, ':'));
    flowmesh_client_t *client = open_with(endpoint, options);
    OK(set_one(client, &error));
    for (int i = 0; i < 20; i++) {
        tell(&proxy, "cut rst");
        flowmesh_status_t status = set_one(client, NULL);
        assert_true(status == FLOWMESH_OK || status == FLOWMESH_UNAVAILABLE);
    }
    tell(&proxy, "storm 7 4000");
    for (int i = 0; i < 50; i++) {
        flowmesh_status_t status = set_one(client, NULL);
        assert_true(status == FLOWMESH_OK || status == FLOWMESH_UNAVAILABLE);
    }
    tell(&proxy, "calm");
    while (set_one(client, NULL) != FLOWMESH_OK) { /* one that was to be cut may be left */
    }
    flowmesh_client_free(client);
    flowmesh_client_options_free(options);
    kill_peer(&proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_get_a_client_in),
        cmocka_unit_test(so_does_pem_from_memory),
        cmocka_unit_test(so_does_the_environment),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(tls_and_clear_text_do_not_meet),
        cmocka_unit_test(resets_raise_no_sigpipe),
    };
    if (!have_peers())
        return 0;
    signal(SIGPIPE, SIG_DFL);
    return cmocka_run_group_tests(tests, begin, end);
}
