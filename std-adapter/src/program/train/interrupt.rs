//! Ctrl-C: the first asks the training to stop at the next batch, the second ends the process at once.

use std::sync::{
    Once,
    atomic::{AtomicBool, Ordering},
};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static HANDLER: Once = Once::new();

/// Catches Ctrl-C from now on.
pub(super) fn watch() {
    HANDLER.call_once(|| {
        let handler = || {
            if REQUESTED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            eprintln!("warning: Ctrl-C will not save a checkpoint: {error}");
        }
    });
}

/// Whether to stop.
pub(super) fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// The request has been met.
pub(super) fn clear() {
    REQUESTED.store(false, Ordering::Relaxed);
}
