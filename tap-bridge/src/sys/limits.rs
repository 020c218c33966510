//! How many descriptors this process may have open.
//!
//! Decides that podwire takes as many as it may get, and that the programs it starts don't: they get what it was given itself. The
//! low limit that most systems give at first (1,024) is for programs that use select(2), which podwire doesn't, while its
//! daemon has four descriptors for each pod.
//!
//! Source: getrlimit(2); CAP_SYS_RESOURCE lifts the hard limit, up to `fs.nr_open`. Cost: a few system calls, once.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What this process was given.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process have as many descriptors as it may, and says how many that are.
pub fn raise_open_files() -> u64 {
    let given = GIVEN.get_or_init(|| getrlimit(Resource::Nofile));
    let all = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let all = all.and_then(|text| text.trim().parse().ok());
    // The first is refused to who may not lift the hard limit.
    for most in [all.max(given.maximum), given.maximum] {
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        if setrlimit(Resource::Nofile, limit).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What this process was given, if it [has taken more](raise_open_files) since.
pub(super) fn given() -> Option<Rlimit> {
    GIVEN.get().copied()
}
