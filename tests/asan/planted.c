/* Faults that AddressSanitizer must find, or its silence about the others says nothing. Each goes
 * through the library, which must be instrumented too.
 *
 * usage: planted leak|use|overflow
 */
#include <flowmesh.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments)
{
    const char *fault = count == 2 ? arguments[1] : "";
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    if (flowmesh_client_open("embedded:", NULL, &client, &error) != FLOWMESH_OK ||
        flowmesh_stream_open(client, "t", "n", "s", &stream, &error) != FLOWMESH_OK)
        return 2;
    char payload[] = "no more than this";
    event.payload = flowmesh_view_str(payload);
    if (strcmp(fault, "overflow") == 0)
        event.payload.len += 100;
    if (strcmp(fault, "use") == 0)
        flowmesh_stream_free(stream);
    if (flowmesh_stream_write(stream, &event, 1, NULL, NULL, &error) != FLOWMESH_OK)
        return 2;
    if (strcmp(fault, "leak") != 0)
        flowmesh_stream_free(stream);
    stream = NULL;
    flowmesh_client_free(client);
    client = NULL;
    return flowmesh_shutdown(-1, &error) == FLOWMESH_OK ? 0 : 2;
}
