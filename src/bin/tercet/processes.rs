//! What the nodes' processes cost, where they run on this machine and `/proc` tells.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Ticks a second in `/proc/PID/stat`: part of Linux' interface, the same on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// What a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu_s: f64,
    /// Most memory it ever had resident.
    pub rss_peak_bytes: u64,
}

/// The process that listens at a loopback address; none where it is elsewhere or cannot be told.
pub fn listener(address: SocketAddr) -> Option<u32> {
    if !address.ip().is_loopback() {
        return None;
    }
    let table = match address.ip() {
        IpAddr::V4(_) => fs::read_to_string("/proc/net/tcp").ok()?,
        IpAddr::V6(_) => fs::read_to_string("/proc/net/tcp6").ok()?,
    };
    let socket = format!("socket:[{}]", listening_inode(&table, address.port())?);
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| holds(*pid, &socket))
}

fn holds(pid: u32, socket: &str) -> bool {
    // Of other users' processes nothing can be read.
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = descriptors.filter_map(Result::ok).filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.any(|target| target == Path::new(socket))
}

/// Inode of the socket that listens at `port`, on whatever address.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    let port = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        (local == port && *fields.get(3)? == LISTEN).then(|| fields.get(9)?.parse().ok())?
    })
}

/// What a process has used; none when it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage { cpu_s: cpu_s(&stat)?, rss_peak_bytes: peak_bytes(&status)? })
}

/// What became of this machine's processors so far, in ticks of all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineTicks {
    total: u64,
    /// Wanted here and given to others by the hypervisor.
    stolen: u64,
}

impl MachineTicks {
    /// Now; none where the system does not tell.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        // user nice system idle iowait irq softirq steal; what follows is counted in user and nice already.
        let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { total: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// Part of the processors' time that was stolen between two looks, in percent.
    pub fn stolen_pct_since(&self, before: &Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        self.stolen.saturating_sub(before.stolen) as f64 * 100.0 / total.max(1) as f64
    }
}

fn cpu_s(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything, parentheses included; fields count from behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{MachineTicks, cpu_s, listener, listening_inode, peak_bytes, usage};

    #[test]
    fn stolen_time_is_a_part_of_all_time() {
        let at = |text: &str| MachineTicks::parse(text).unwrap();
        let before = at("cpu  100 0 50 800 10 0 20 20 7 0\ncpu0 1 2 3\n");
        let after = at("cpu  150 0 70 900 10 0 20 50 9 0\n");
        assert!((after.stolen_pct_since(&before) - 15.0).abs() < 1e-9);
        assert!(before.stolen_pct_since(&after).abs() < 1e-9, "counters that ran backwards are no theft");
        for broken in ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 3 4 5 6 7", "cpu  1 2 3 4 5 6 7 x"] {
            assert_eq!(MachineTicks::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(listener(address), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(address), None);
        assert_eq!(listener("192.0.2.1:9001".parse().unwrap()), None, "another machine's");
        assert!(usage(std::process::id()).unwrap().rss_peak_bytes > 0);
    }

    #[test]
    fn proc_files_are_read_as_they_are_documented() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:2329 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
                     1: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1\n";
        assert_eq!(listening_inode(table, 9001), Some(222));
        assert_eq!(listening_inode(table, 9002), None);
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 5 0 1 1 1";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("garbage"), None);
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(peak_bytes("Name:\tx\n"), None);
    }
}
