/* What the shim's own files share. */
#ifndef FLOWMESH_GO_SHIM_INTERNAL_H
#define FLOWMESH_GO_SHIM_INTERNAL_H

#include "shim.h"

/* Memory or the end of the process, as Go itself does it. */
void *fm_alloc(size_t count, size_t size);
char *fm_copy_text(const char *text);
void fm_push(fm_pump_t *pump, fm_node_t *node);
void fm_failure_copy(fm_failure_t *failure, const flowmesh_error_t *error);
void fm_failure_free(fm_failure_t *failure);
fm_messages_t *fm_messages_of(flowmesh_message_batch_t *batch);
/* The end of a call: at once where it was alone, else through the pump. */
void fm_call_done(fm_call_t *call, flowmesh_error_t *error);
void fm_on_done(flowmesh_error_t *error, void *user_data);
void fm_on_count(flowmesh_error_t *error, size_t count, void *user_data);

void fm_free_jobs(void *batch);

/* An event from lengths and bytes, see shim.h; its headers go to `headers`. */
void fm_event_unpack(flowmesh_event_t *event, flowmesh_header_t *headers, const uint8_t **bytes,
                     const uint64_t **lengths);

#endif
