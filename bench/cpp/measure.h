/* What is measured, in C and in C++: the same work, through flowmesh.h and through flowmesh.hpp. */
#ifndef MEASURE_H
#define MEASURE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each returns a rate per second, or a negative number after it has said what failed. */

/* Reads a value so many times from an engine in this process. */
double c_gets(long count);
double cpp_gets(long count);

/* Writes messages of 100 bytes to an engine in this process, and counts them as they come to a
 * subscription's callback, looking at each. */
double c_messages(long count);
double cpp_messages(long count);

double seconds_now(void);

#ifdef __cplusplus
}
#endif

#endif
