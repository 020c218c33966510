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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the process that has a low limit.
    const LOW: &str = "PODWIRE_TEST_OF_LIMITS";

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// In a process of its own, as the limit is a process's: it takes all that it may have, and remembers what it was given.
    #[test]
    fn a_process_takes_as_many_as_it_may_and_knows_what_it_was_given() {
        let Some(most) = std::env::var(LOW).ok() else {
            // The most that such a process may have, as a shell finds out.
            let most = shell("ulimit -n $(cat /proc/sys/fs/nr_open) 2>&-; ulimit -Hn").output();
            let most = String::from_utf8(most.unwrap().stdout).unwrap();
            let name = concat!(
                module_path!(),
                "::a_process_takes_as_many_as_it_may_and_knows_what_it_was_given"
            );
            let (_, name) = name.split_once("::").unwrap();
            let mut low = shell("ulimit -Sn 64 && exec \"$0\" --exact \"$1\"");
            let low = low.arg(std::env::current_exe().unwrap()).arg(name);
            let output = low.env(LOW, most.trim()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("1 passed"), "{said}");
            return;
        };
        let before = getrlimit(Resource::Nofile);
        assert_eq!((before.current, given()), (Some(64), None));
        assert_eq!(raise_open_files().to_string(), most);
        let raised = getrlimit(Resource::Nofile);
        assert_eq!(raised.current, raised.maximum);
        // Once more changes nothing.
        assert_eq!(raise_open_files().to_string(), most);
        assert_eq!(given(), Some(before));
    }
}
