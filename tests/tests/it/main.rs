//! What crosses services, and the lab it is tested in.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod arrows;
mod attacks;
mod interop;
mod lab;
mod natlab;
mod system;

/// A test in the network lab. Without the right to make networks it runs itself again in a user namespace.
macro_rules! lab_test {
    ($(#[$meta:meta])* fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            // The harness names tests without the crate.
            let path = concat!(module_path!(), "::", stringify!($name));
            let (_, name) = path.split_once("::").unwrap();
            if let Err(error) = writ_tests::lab::privilege::run_test(name, || $body) {
                panic!("{error}");
            }
        }
    };
}
pub(crate) use lab_test;
