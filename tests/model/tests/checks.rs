//! Runs the checks of the model, each in FLOWMESH_MODEL_ROUNDS orders by either scheduler. When one
//! fails, shuttle prints the schedule that made it fail.

macro_rules! checks {
    ($($module:ident: $($check:ident),+;)+) => {$(
        mod $module {
            $(
                #[test]
                fn $check() {
                    flowmesh_model::checks::$module::$check();
                }
            )+
        }
    )+};
}

checks! {
    cancel: no_cancel_is_missed;
    driver:
        spawned_work_is_driven,
        work_that_comes_late_is_driven,
        every_caller_gets_its_answer,
        a_stop_leaves_nobody_waiting;
    dispatcher:
        the_descriptor_tells_of_every_callback,
        threads_that_wait_in_run_are_woken,
        a_join_runs_what_nobody_runs,
        an_heir_runs_what_is_left,
        a_stop_runs_what_was_posted,
        a_stopped_task_is_not_polled,
        no_wake_of_a_task_is_lost;
}
