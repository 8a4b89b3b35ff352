//! The examples do what they say: each runs here as a user would run it.

#[path = "../examples/commitlog.rs"]
mod commitlog;
#[path = "../examples/embedded_kv.rs"]
mod embedded_kv;

#[test]
fn example_embedded_kv_runs() {
    embedded_kv::main().unwrap();
}

#[test]
fn example_commitlog_runs() {
    commitlog::main().unwrap();
}
