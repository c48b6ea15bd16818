//! Parameters that may be NULL, by type. cbindgen.toml says how C spells each of them, marked
//! FLOWMESH_NULLABLE; so this file is hidden from cbindgen.

use std::{
    ffi::{c_char, c_void},
    mem::MaybeUninit,
    ptr::NonNull,
};

use crate::capi::{
    cancel::flowmesh_cancel_t,
    client::{flowmesh_call_options_t, flowmesh_client_options_t, flowmesh_client_t},
    dispatcher::flowmesh_dispatcher_t,
    error::flowmesh_error_t,
    job::{flowmesh_job_batch_t, flowmesh_job_t},
    kv::{flowmesh_key_list_t, flowmesh_kv_t, flowmesh_set_options_t, flowmesh_value_t},
    log::flowmesh_log_callback_t,
    message::flowmesh_message_batch_t,
    operation::flowmesh_operation_t,
    producer::{flowmesh_producer_options_t, flowmesh_producer_t},
    queue::{
        flowmesh_enqueue_options_t, flowmesh_nack_options_t, flowmesh_queue_stats_t, flowmesh_queue_t,
        flowmesh_reserve_options_t,
    },
    reader::flowmesh_stream_reader_t,
    retry_policy::flowmesh_retry_policy_t,
    stream::{
        flowmesh_group_state_t, flowmesh_offset_options_t, flowmesh_read_options_t, flowmesh_stream_t,
        flowmesh_write_options_t,
    },
    subscription::{flowmesh_drop_t, flowmesh_subscription_options_t, flowmesh_subscription_t},
    worker::{flowmesh_worker_options_t, flowmesh_worker_t},
};

// Texts and plain outputs.
pub type NullableText = *const c_char;
pub type NullableJobId = *mut c_char;
pub type NullableBool<'a> = Option<&'a mut MaybeUninit<bool>>;
pub type NullableInt64<'a> = Option<&'a mut MaybeUninit<i64>>;
pub type NullableOffsets = *mut i64;
pub type NullableSize<'a> = Option<&'a mut MaybeUninit<usize>>;
pub type NullableUserData = *mut c_void;
pub type NullableDrop = flowmesh_drop_t;
pub type NullableLogCallback = flowmesh_log_callback_t;

// Errors, out and in.
pub type NullableError<'a> = Option<&'a mut MaybeUninit<*mut flowmesh_error_t>>;
pub type NullableErrorRef<'a> = Option<&'a flowmesh_error_t>;

// What callbacks are given or lent.
pub type NullableErrorPtr = *mut flowmesh_error_t;
pub type NullableMessageBatch = *mut flowmesh_message_batch_t;
pub type NullableJob = *mut flowmesh_job_t;
pub type NullableJobBatch = *mut flowmesh_job_batch_t;
pub type NullableSubscription = *mut flowmesh_subscription_t;
pub type NullableValue = *mut flowmesh_value_t;
pub type NullableKeyList = *mut flowmesh_key_list_t;
pub type NullableGroupState = *const flowmesh_group_state_t;
pub type NullableQueueStats = *const flowmesh_queue_stats_t;
pub type NullableRetryPolicy = *const flowmesh_retry_policy_t;

// Asynchronous calls and what runs their callbacks.
pub type NullableWorkerOptions<'a> = Option<&'a flowmesh_worker_options_t>;
pub type NullableDispatcher<'a> = Option<&'a flowmesh_dispatcher_t>;
pub type NullableOperation<'a> = Option<&'a mut MaybeUninit<*mut flowmesh_operation_t>>;

// A token, in.
pub type NullableCancel<'a> = Option<&'a flowmesh_cancel_t>;

// Structs that callers fill. Raw, because they may be shorter than today's.
pub type NullableCallOptions = *const flowmesh_call_options_t;
pub type NullableWriteOptions = *const flowmesh_write_options_t;
pub type NullableReadOptions = *const flowmesh_read_options_t;
pub type NullableOffsetOptions = *const flowmesh_offset_options_t;
pub type NullableEnqueueOptions = *const flowmesh_enqueue_options_t;
pub type NullableReserveOptions = *const flowmesh_reserve_options_t;
pub type NullableNackOptions = *const flowmesh_nack_options_t;
pub type NullableSetOptions = *const flowmesh_set_options_t;
pub type NullableClientOptions<'a> = Option<&'a flowmesh_client_options_t>;
pub type NullableProducerOptions<'a> = Option<&'a flowmesh_producer_options_t>;
pub type NullableSubscriptionOptions<'a> = Option<&'a flowmesh_subscription_options_t>;

// What `free` takes.
pub type NullableErrorBox = Option<Box<flowmesh_error_t>>;
pub type NullableOperationBox = Option<Box<flowmesh_operation_t>>;
pub type NullableDispatcherBox = Option<Box<flowmesh_dispatcher_t>>;
pub type NullableCancelBox = Option<Box<flowmesh_cancel_t>>;
pub type NullableClientOptionsBox = Option<Box<flowmesh_client_options_t>>;
pub type NullableClientBox = Option<Box<flowmesh_client_t>>;
pub type NullableStreamBox = Option<Box<flowmesh_stream_t>>;
pub type NullableMessageBatchBox = Option<Box<flowmesh_message_batch_t>>;
pub type NullableReaderBox = Option<Box<flowmesh_stream_reader_t>>;
pub type NullableSubscriptionOptionsBox = Option<Box<flowmesh_subscription_options_t>>;
pub type NullableSubscriptionBox = Option<Box<flowmesh_subscription_t>>;
pub type NullableProducerOptionsBox = Option<Box<flowmesh_producer_options_t>>;
pub type NullableProducerBox = Option<Box<flowmesh_producer_t>>;
pub type NullableQueueBox = Option<Box<flowmesh_queue_t>>;
pub type NullableJobBox = Option<NonNull<flowmesh_job_t>>;
pub type NullableWorkerOptionsBox = Option<Box<flowmesh_worker_options_t>>;
pub type NullableWorkerBox = Option<Box<flowmesh_worker_t>>;
pub type NullableJobBatchBox = Option<Box<flowmesh_job_batch_t>>;
pub type NullableKvBox = Option<Box<flowmesh_kv_t>>;
pub type NullableValueBox = Option<Box<flowmesh_value_t>>;
pub type NullableKeyListBox = Option<Box<flowmesh_key_list_t>>;
