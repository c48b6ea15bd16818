/* Bytes that grow. A buffer without memory says so once, in `failed`, and takes nothing more. */
#ifndef FLOWMESH_PYTHON_BUFFER_H
#define FLOWMESH_PYTHON_BUFFER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
    uint8_t *data;
    size_t length;
    size_t capacity;
    bool failed;
};

/* Above this much a buffer is given back before it is used again. */
#define BUFFER_KEEP ((size_t)1 << 20)

static inline void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

static inline void buffer_clear(struct buffer *buffer)
{
    if (buffer->capacity > BUFFER_KEEP) {
        buffer_free(buffer);
    }
    buffer->length = 0;
    buffer->failed = false;
}

static inline bool buffer_reserve(struct buffer *buffer, size_t more)
{
    size_t wanted = buffer->length + more;
    if (buffer->failed || wanted < more) {
        buffer->failed = true;
        return false;
    }
    if (wanted > buffer->capacity) {
        size_t capacity = buffer->capacity < 4096 ? 4096 : buffer->capacity;
        while (capacity < wanted) {
            capacity *= 2;
        }
        uint8_t *data = realloc(buffer->data, capacity);
        if (data == NULL) {
            buffer->failed = true;
            return false;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return true;
}

static inline void buffer_put(struct buffer *buffer, const void *data, size_t length)
{
    if (length > 0 && buffer_reserve(buffer, length)) {
        memcpy(buffer->data + buffer->length, data, length);
        buffer->length += length;
    }
}

static inline void buffer_u32(struct buffer *buffer, size_t number)
{
    uint32_t narrow = (uint32_t)number;
    if (narrow != number) {
        buffer->failed = true;
    }
    buffer_put(buffer, &narrow, sizeof narrow);
}

static inline void buffer_i32(struct buffer *buffer, int32_t number)
{
    buffer_put(buffer, &number, sizeof number);
}

static inline void buffer_i64(struct buffer *buffer, int64_t number)
{
    buffer_put(buffer, &number, sizeof number);
}

#endif
