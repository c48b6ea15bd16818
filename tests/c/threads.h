/* The library's threads, as the system sees them. */
#ifndef THREADS_H
#define THREADS_H

#include "test.h"

#include <dirent.h>

/* What is known of the threads of this process whose names begin with "flowmesh". */
struct threads {
    size_t count;
    char names[512]; /* sorted, each followed by ' ' */
    unsigned long wakeups;
};

/* How often a thread was asleep and was woken; 0 for one that has just ended. */
static inline unsigned long thread_wakeups(const char *task)
{
    static const char key[] = "voluntary_ctxt_switches:";
    unsigned long wakeups = 0;
    char path[300];
    char line[128];
    snprintf(path, sizeof(path), "/proc/self/task/%s/status", task);
    FILE *status = fopen(path, "r");
    if (status == NULL)
        return 0;
    while (fgets(line, sizeof(line), status) != NULL)
        if (strncmp(line, key, sizeof(key) - 1) == 0)
            wakeups = strtoul(line + sizeof(key) - 1, NULL, 10);
    fclose(status);
    return wakeups;
}

static inline int compare_names(const void *a, const void *b)
{
    return strcmp((const char *)a, (const char *)b);
}

static inline struct threads library_threads(void)
{
    enum { MOST = 24 };
    char found[MOST][20]; /* names have 15 bytes */
    struct threads threads;
    memset(&threads, 0, sizeof(threads));
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL && threads.count < MOST;) {
        char path[300];
        char *name = found[threads.count];
        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *comm = fopen(path, "r");
        if (comm == NULL)
            continue;
        if (fgets(name, sizeof(found[0]), comm) != NULL && strncmp(name, "flowmesh", 8) == 0) {
            threads.count++;
            threads.wakeups += thread_wakeups(entry->d_name);
        }
        fclose(comm);
    }
    closedir(tasks);
    qsort(found, threads.count, sizeof(found[0]), compare_names);
    for (size_t i = 0; i < threads.count; i++) {
        found[i][strcspn(found[i], "\n")] = '\0';
        strcat(strcat(threads.names, found[i]), " ");
    }
    return threads;
}

/* Waits until the library's threads are `names`. One that has ended and was joined is still listed
 * for a moment: the kernel tells of its end before it takes it away. */
static inline void await_threads(const char *names)
{
    for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms++) {
        if (strcmp(library_threads().names, names) == 0)
            return;
        usleep(1000);
    }
    assert_string_equal(library_threads().names, names);
}

#endif
