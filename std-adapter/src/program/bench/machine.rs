//! What the system says of this process: Linux only.

use std::{fs, time::Duration};

/// What the calling thread has had of a processor so far, which other work on the machine does not change. It moves in ticks of some
/// milliseconds, so only sums over many of these mean something; `None` where the system does not say.
pub(super) fn processor_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The most memory that the process has held at once, in units of 10^6 bytes; `None` where the system does not say.
pub(super) fn peak_memory() -> Option<f64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The line `VmHWM:   1234 kB` of Linux, whose kB are 1024 bytes.
fn parse(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let count: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(count * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::{parse, processor_time};

    // Mutant: the present size, VmRSS, in the place of the peak.
    #[test]
    fn the_peak_is_read_and_nothing_else() {
        let status = "Name:\tekfac\nVmPeak:\t  9000 kB\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(parse(status), Some(2.048));
        for other in ["", "VmRSS:\t 1 kB", "VmHWM:\t many kB", "VmHWM:\t 1 MB"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    // Mutant: the time that the thread waited, which is the second number.
    #[test]
    fn a_thread_that_sleeps_takes_no_processor_time() {
        let Some(before) = processor_time() else { return };
        std::thread::sleep(std::time::Duration::from_millis(30));
        let after = processor_time().unwrap();
        assert!(after >= before && (after - before).as_millis() < 30);
    }
}
