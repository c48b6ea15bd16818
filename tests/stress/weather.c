/* The fault proxy between clients and server, and a thread that makes bad weather there. */
#include "stress.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t proxy;
static FILE *to;
static FILE *from;
static pthread_t thread;
static struct dice weather;
static atomic_bool calm;

static void tell(const char *command)
{
    char line[256] = "";
    fprintf(to, "%s\n", command);
    fflush(to);
    MUST(fgets(line, sizeof(line), from) != NULL && strncmp(line, "ok ", 3) == 0);
}

static void *change(void *unused)
{
    (void)unused;
    while (!calm) {
        char storm[64];
        int bytes = 1 << (10 + dice_below(&weather, 11));
        snprintf(storm, sizeof(storm), "storm %d %d", dice_below(&weather, 1 << 20), bytes);
        static const char *const kinds[] = {
            NULL,      "calm",   "stall both",    "cut rst",  "delay both 5", "trickle both 500 1",
            "cut fin", "refuse", "half-close up", "stall up", "stall down",   "half-close down"};
        const char *kind = kinds[dice_below(&weather, (int)(sizeof(kinds) / sizeof(*kinds)))];
        tell(kind == NULL ? storm : kind);
        dice_pause(&weather, 1000);
        tell("accept");
        tell("flow both");
        dice_pause(&weather, 1000);
    }
    tell("calm");
    return NULL;
}

void weather_start(const char *upstream, uint64_t seed, char *through, size_t size)
{
    int input[2];
    int output[2];
    char line[128] = "";
    MUST(pipe(input) == 0 && pipe(output) == 0);
    proxy = fork();
    if (proxy == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        close(input[1]);
        close(output[0]);
        execl(getenv("FLOWMESH_PROXY"), "flowmesh-fault-proxy", upstream, (char *)NULL);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    to = fdopen(input[1], "w");
    from = fdopen(output[0], "r");
    MUST(fgets(line, sizeof(line), from) != NULL && strncmp(line, "listening ", 10) == 0);
    line[strcspn(line, "\n")] = '\0';
    snprintf(through, size, "%s", line + 10);
    weather.state = seed;
    MUST(pthread_create(&thread, NULL, change, NULL) == 0);
}

void weather_end(void)
{
    if (proxy == 0)
        return;
    calm = true;
    pthread_join(thread, NULL);
    fclose(to);
    fclose(from);
    waitpid(proxy, NULL, 0);
}
