//! Facts about this process and this machine.

/// The most memory this process ever had resident, in bytes; `None` where the system does not tell.
///
/// Weights of a mapped file count once they have been read. Source: `VmHWM` of `/proc/self/status`.
pub fn peak_memory() -> Option<u64> {
    kib_of(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The processor's name for people; empty where the system does not tell.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(':')).map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
}

fn kib_of(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_systems_own_form() {
        let status = "Name:\tquipu\nVmHWM:\t   10240 kB\nVmRSS:\t    5000 kB\n";
        assert_eq!(kib_of(status, "VmHWM:"), Some(10 << 20));
        assert_eq!(kib_of(status, "VmSwap:"), None);
        assert_eq!(kib_of("VmHWM: many kB", "VmHWM:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_memory() {
        assert!(peak_memory().is_some_and(|b| b > 1 << 20));
    }
}
