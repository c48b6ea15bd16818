/* peers.c: the list of peers. A new one adds its line here and its file to the Makefile, which
 * leaves out those whose client library is not installed. */
#include <stddef.h>

#include "bench.h"

extern const struct peer_ops flowmesh_ops, flowmesh_embedded_ops, file_ops, nats_ops,
    nats_async_ops, redis_ops, redis_multi_ops, redis_list_ops, postgres_ops, beanstalkd_ops,
    kafka_ops, etcd_ops;

const struct peer_ops *const peers[] = {
    &flowmesh_ops, &flowmesh_embedded_ops, &file_ops,       &beanstalkd_ops,
#ifdef HAVE_NATS
    &nats_ops,     &nats_async_ops,
#endif
#ifdef HAVE_REDIS
    &redis_ops,    &redis_multi_ops,       &redis_list_ops,
#endif
#ifdef HAVE_POSTGRES
    &postgres_ops,
#endif
#ifdef HAVE_KAFKA
    &kafka_ops,
#endif
#ifdef HAVE_ETCD
    &etcd_ops,
#endif
    NULL};
