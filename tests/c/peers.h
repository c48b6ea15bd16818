/* Programs that the tests of the C API talk to: a server of their own, which they can kill, and
 * the fault proxy. FLOWMESH_SERVER and FLOWMESH_PROXY say where the two are.
 */
#ifndef PEERS_H
#define PEERS_H

#include "test.h"
#include <signal.h>
#include <sys/wait.h>

struct peer {
    pid_t pid;
    FILE *to;   /* its standard input */
    FILE *from; /* what it says */
    char address[96];
};

/* Starts a program with pipes at its input and at the output `said`, and waits for the line that
 * holds `ready`: what follows there is its address. */
static inline struct peer start_peer(const char *const *arguments, int said, const char *ready)
{
    struct peer peer;
    char line[256];
    int input[2];
    int output[2];
    memset(&peer, 0, sizeof(peer));
    assert_int_equal(pipe(input), 0);
    assert_int_equal(pipe(output), 0);
    peer.pid = fork();
    if (peer.pid == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], said);
        for (int fd = 3; fd < 256; fd++) /* it must not hold the pipes of other peers open */
            close(fd);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    peer.to = fdopen(input[1], "w");
    peer.from = fdopen(output[0], "r");
    const char *found = NULL;
    while (found == NULL && fgets(line, sizeof(line), peer.from) != NULL)
        found = strstr(line, ready);
    assert_non_null(found);
    assert_int_equal(sscanf(found + strlen(ready), " %95s", peer.address), 1);
    return peer;
}

/* A server that keeps its data in `directory` and listens at `listen`. */
static inline struct peer start_server(const char *listen, const char *directory)
{
    char data[96];
    snprintf(data, sizeof(data), "%s/data", directory);
    const char *arguments[] = {
        getenv("FLOWMESH_SERVER"), "--listen", listen, "--data-dir", data, NULL};
    return start_peer(arguments, STDERR_FILENO, "listening on");
}

/* A proxy whose connections lead to `upstream`. */
static inline struct peer start_proxy(const char *upstream)
{
    const char *arguments[] = {getenv("FLOWMESH_PROXY"), upstream, NULL};
    return start_peer(arguments, STDOUT_FILENO, "listening");
}

/* Ends it as a crash would. */
static inline void kill_peer(struct peer *peer)
{
    kill(peer->pid, SIGKILL);
    waitpid(peer->pid, NULL, 0);
    fclose(peer->to);
    fclose(peer->from);
}

/* Has the proxy carry out a command; the commands are in tests/proxy/src/command.rs. */
static inline void tell(struct peer *proxy, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vfprintf(proxy->to, format, arguments);
    va_end(arguments);
    fputc('\n', proxy->to);
    fflush(proxy->to);
    assert_non_null(fgets(line, sizeof(line), proxy->from));
    if (strncmp(line, "ok ", 3) != 0)
        print_error("the proxy says: %s", line);
    assert_memory_equal(line, "ok ", 3);
}

/* Whether there are programs to start, and a server on TCP that a proxy can lead to. */
static inline bool have_peers(void)
{
    const char *endpoint = test_endpoint();
    return getenv("FLOWMESH_SERVER") != NULL && getenv("FLOWMESH_PROXY") != NULL &&
           strncmp(endpoint, "embedded", 8) != 0 && strncmp(endpoint, "unix", 4) != 0;
}

/* A directory that is removed with remove_directory. */
static inline void make_directory(char path[32])
{
    snprintf(path, 32, "/tmp/flowmesh-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static inline void remove_directory(const char *path)
{
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", path);
    assert_int_equal(system(command), 0);
}

#endif
