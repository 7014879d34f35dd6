//! Ctrl-C and its like: take every lab down, then end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError, mpsc};

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::core;
use super::error::LabError;

static INSTALL: Once = Once::new();
static ENDING: AtomicBool = AtomicBool::new(false);
static WAITING: Mutex<Option<mpsc::Sender<Signal>>> = Mutex::new(None);

/// From now on SIGINT, SIGTERM and SIGHUP close every lab of this process and end it with 128 plus the signal's
/// number, unless somebody is in [`wait`]. Calling it again does nothing.
///
/// # Errors
/// When no thread can be started.
pub fn install() -> Result<(), LabError> {
    let mut result = Ok(());
    INSTALL.call_once(|| result = start());
    result
}

/// Waits for one of the signals, which then ends only the wait. What comes after it ends the process again.
#[must_use]
pub fn wait() -> Option<Signal> {
    let (sender, receiver) = mpsc::channel();
    *WAITING.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    receiver.recv().ok()
}

/// Never returns if a signal is about to end this process. For the moment after a failure: with the lab closed under
/// it everything fails, and that is not worth a word.
pub fn give_way() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

fn start() -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(LabError::io("start a runtime"))?;
    let mut streams = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(LabError::io("listen for signals"));
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?)
    };
    let serve = move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    Some(()) = streams.0.recv() => react(Signal::SIGINT),
                    Some(()) = streams.1.recv() => react(Signal::SIGTERM),
                    Some(()) = streams.2.recv() => react(Signal::SIGHUP),
                    else => return,
                }
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(serve)
        .map_err(LabError::io("start a thread"))?;
    Ok(())
}

#[expect(clippy::exit, reason = "ending the process is what the signal asks for")]
fn react(signal: Signal) {
    let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner).take();
    if waiting.is_some_and(|waiting| waiting.send(signal).is_ok()) {
        return;
    }
    ENDING.store(true, Ordering::SeqCst);
    core::close_all();
    std::process::exit(128_i32.saturating_add(signal as i32));
}
