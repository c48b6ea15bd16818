/* A program with an SQLite and an OpenSSL of its own beside the library's: it runs its own, as its
 * headers say, and the library runs its own. The library refuses an SQLite as old as Debian's.
 *
 *     neighbours DIRECTORY
 */
#include <flowmesh.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "neighbours.c:%d: %s: %s\n", __LINE__, #condition,                     \
                    flowmesh_error_message(error));                                                \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int count_rows(void *rows, int columns, char **values, char **names)
{
    (void)columns, (void)values, (void)names;
    ++*(int *)rows;
    return 0;
}

int main(int argc, char **argv)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_job_t *job = NULL;
    sqlite3 *database = NULL;
    char endpoint[4096];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int rows = 0;

    CHECK(argc == 2);
    snprintf(endpoint, sizeof endpoint, "embedded:%s", argv[1]);
    CHECK(sqlite3_libversion_number() == SQLITE_VERSION_NUMBER);
    CHECK(strcmp(sqlite3_sourceid(), SQLITE_SOURCE_ID) == 0);
    CHECK(OpenSSL_version_num() == OPENSSL_VERSION_NUMBER);

    /* Both have a database open at once, and take turns. */
    CHECK(sqlite3_open(":memory:", &database) == SQLITE_OK);
    CHECK(sqlite3_exec(database, "CREATE TABLE t(x); INSERT INTO t VALUES(1)", NULL, NULL, NULL) ==
          SQLITE_OK);
    CHECK(flowmesh_client_open(endpoint, NULL, &client, &error) == FLOWMESH_OK);
    CHECK(flowmesh_queue_open(client, "acme", "shop", "mails", &queue, &error) == FLOWMESH_OK);
    CHECK(flowmesh_queue_enqueue(queue, flowmesh_view_str("hello"), NULL, NULL, NULL, &error) ==
          FLOWMESH_OK);
    CHECK(sqlite3_exec(database, "INSERT INTO t SELECT 2", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(flowmesh_queue_reserve(queue, NULL, &job, &error) == FLOWMESH_OK && job);
    CHECK(flowmesh_job_ack(job, NULL, &error) == FLOWMESH_OK);
    CHECK(sqlite3_exec(database, "SELECT x FROM t", count_rows, &rows, NULL) == SQLITE_OK &&
          rows == 2);
    CHECK(EVP_Digest("abc", 3, digest, &size, EVP_sha256(), NULL) == 1 && digest[0] == 0xba);

    flowmesh_job_free(job);
    flowmesh_queue_free(queue);
    CHECK(flowmesh_client_close(client, -1, &error) == FLOWMESH_OK);
    flowmesh_client_free(client);
    CHECK(sqlite3_close(database) == SQLITE_OK);
    printf("SQLite %s and %s beside the library's\n", sqlite3_libversion(),
           OpenSSL_version(OPENSSL_VERSION));
    return 0;
}
