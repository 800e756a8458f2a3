//! Whether it is for the sake of the backup's files or of this machine that the server of a restore
//! test ended, or failed. Only the first says something of the backup: a good one must not be called
//! damaged because the disk beside it is full.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use nix::libc;
use seawall_common::{Error, ErrorKind};

/// Something of this machine.
struct Cause {
    /// Numbers of the operating system's errors, as the server writes them.
    errors: &'static [i32],
    /// What else it says.
    phrases: &'static [&'static str],
    kind: ErrorKind,
    hint: &'static str,
}

const CAUSES: [Cause; 7] = [
    Cause {
        errors: &[libc::ENOSPC, libc::EDQUOT],
        phrases: &["No space left on device", "Disk quota exceeded"],
        kind: ErrorKind::Exhausted,
        hint: "Make room in scratch_dir.",
    },
    Cause {
        errors: &[libc::EMFILE, libc::ENFILE],
        phrases: &["Too many open files"],
        kind: ErrorKind::Refused,
        hint: "Let the agent have more open files: LimitNOFILE in its unit, or ulimit -n.",
    },
    Cause {
        errors: &[libc::EROFS],
        phrases: &["Read-only file system"],
        kind: ErrorKind::Refused,
        hint: "The file system of scratch_dir is read-only: look at its mount and at the disk.",
    },
    Cause {
        errors: &[libc::EIO],
        phrases: &["Input/output error", "aborted with error I/O error"],
        kind: ErrorKind::Refused,
        hint: "The disk of scratch_dir fails: look at the kernel's log, or set another scratch_dir.",
    },
    Cause {
        errors: &[libc::EADDRINUSE],
        phrases: &[
            "Address already in use",
            "Another process is already listening on the socket",
            "file is probably in use by another process",
            "InnoDB: Unable to lock ",
        ],
        kind: ErrorKind::Refused,
        hint: "Another server uses its socket or its files: end it, then test again.",
    },
    Cause {
        errors: &[libc::ENOMEM, libc::EAGAIN],
        phrases: &["Cannot allocate memory"],
        kind: ErrorKind::Refused,
        hint: "This machine had no memory or no threads left for it: test on another one, or later.",
    },
    Cause {
        errors: &[libc::EACCES],
        phrases: &[
            "Permission denied",
            "unknown variable",
            "unknown option",
            "Can't open shared library",
        ],
        kind: ErrorKind::Refused,
        hint: "This is about the server on this machine, not about the backup.",
    },
];

/// Before the number of an error of the operating system.
const NUMBERED: [&str; 6] = [
    "Errcode: ",
    "errno: ",
    "error number ",
    "Error number ",
    "failed with error ",
    "Got error ",
];

/// By which a program ends that does what it must not. Any other signal comes from outside.
const CRASHES: [i32; 7] = [
    libc::SIGABRT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// Why a server ended, by its status and the end of its log. What is not said to be for the sake of
/// this machine is for the sake of the files, [`ErrorKind::Corrupt`].
pub(super) fn judge_end(status: ExitStatus, said: &str, what: &str) -> Error {
    let sent = status.signal().filter(|signal| !CRASHES.contains(signal));
    match sent {
        Some(libc::SIGKILL) => {
            return not_tested(ErrorKind::Refused, what)
                .hint("It was killed: look whether this machine ran out of memory.");
        }
        Some(_) => {
            return not_tested(ErrorKind::Refused, what)
                .hint("A signal from outside ended it: find out whose, then test again.");
        }
        None => {}
    }
    if let Some(error) = of_this_machine(said, what) {
        return error;
    }
    // Asked to end, it ends well; of damage it never does.
    if status.success() {
        return not_tested(ErrorKind::Refused, what)
            .hint("Somebody shut it down: find out who, then test again.");
    }
    Error::corrupt(what)
}

/// When the server says that it failed for the sake of this machine.
pub(super) fn of_this_machine(said: &str, what: &str) -> Option<Error> {
    let of = |cause: &&Cause| said.lines().any(|line| cause.is_in(line));
    let cause = CAUSES.iter().find(of)?;
    Some(not_tested(cause.kind, what).hint(cause.hint))
}

fn not_tested(kind: ErrorKind, what: &str) -> Error {
    Error::new(kind, format!("the backup could not be tested: {what}"))
}

impl Cause {
    fn is_in(&self, line: &str) -> bool {
        // A server that writes these goes on.
        if line.contains("[Note]") || line.contains("[Warning]") {
            return false;
        }
        self.phrases.iter().any(|phrase| line.contains(phrase))
            || self.errors.iter().any(|number| names_error(line, *number))
    }
}

/// Whether a line names the error with this number, and not one whose number only begins so.
fn names_error(line: &str, number: i32) -> bool {
    let number = number.to_string();
    NUMBERED.iter().any(|before| {
        line.match_indices(before).any(|(at, before)| {
            let rest = line[at + before.len()..].strip_prefix(&number);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: &str = "the database does not start on it";
    /// As the program itself ends.
    const EXITED: fn(i32) -> ExitStatus = |code| ExitStatus::from_raw(code << 8);

    fn judged(status: ExitStatus, said: &str) -> Error {
        judge_end(status, said, ENDED)
    }

    /// Judges each of these, with what a server says around it.
    fn all_are(kind: ErrorKind, hint: &str, lines: &[&str]) {
        for line in lines {
            let said = format!(
                "2026-11-26  2:47:37 0 [Note] InnoDB: Number of transaction pools: 1\n\
                 2026-11-26  2:47:37 0 {line}\n\
                 2026-11-26  2:47:37 0 [ERROR] Unknown/unsupported storage engine: InnoDB\n\
                 2026-11-26  2:47:37 0 [ERROR] Aborting\n"
            );
            let error = judged(EXITED(1), &said);
            assert_eq!(error.kind(), kind, "{line}");
            let shown = error.to_string();
            assert!(shown.contains(hint), "{line}: {shown}");
            assert!(shown.contains(ENDED), "{line}: {shown}");
        }
    }

    #[test]
    fn what_this_machine_lacks_says_nothing_of_the_backup() {
        all_are(
            ErrorKind::Exhausted,
            "Make room",
            &[
                "[ERROR] InnoDB: preallocating 12582912 bytes for file ./ibtmp1 failed with error 28",
                "[ERROR] mariadbd: Error writing file './ddl_recovery.log' (Errcode: 28 \"No space left on device\")",
                "[ERROR] mariadbd: Error writing file './ddl_recovery.log' (Errcode: 122 \"Disk quota exceeded\")",
            ],
        );
        all_are(
            ErrorKind::Refused,
            "LimitNOFILE",
            &[
                "[ERROR] InnoDB: Operating system error number 24 in a file operation.",
                "[ERROR] InnoDB: Error number 24 means 'Too many open files'",
                "[ERROR] mysqld: Can't open file: './shop/t.frm' (errno: 24 \"Too many open files\")",
            ],
        );
        all_are(
            ErrorKind::Refused,
            "no memory or no threads",
            &[
                "[ERROR] Can't create interrupt-thread (error 11, errno: 11)",
                "[ERROR] Can't create interrupt-thread (error 11, errno: 12)",
                "[ERROR] InnoDB: Operating system error number 12 in a file operation.",
            ],
        );
        all_are(
            ErrorKind::Refused,
            "not about the backup",
            &[
                "[ERROR] /usr/sbin/mariadbd: unknown variable 'innodb_nothing=1'",
                "[ERROR] mariadbd: Can't create file 'x' (errno: 13 \"Permission denied\")",
                "[ERROR] Can't open shared library 'file_key_management.so'",
            ],
        );
    }

    #[test]
    fn a_disk_that_fails_here_says_nothing_of_the_backup() {
        all_are(
            ErrorKind::Refused,
            "is read-only",
            &[
                "[ERROR] mariadbd: Can't create/write to file './ddl_recovery.log' (Errcode: 30 \"Read-only file system\")",
                "[ERROR] InnoDB: Operating system error number 30 in a file operation.",
            ],
        );
        all_are(
            ErrorKind::Refused,
            "fails: look",
            &[
                "[ERROR] mariadbd: Can't sync file './ddl_recovery.log' to disk (Errcode: 5 \"Input/output error\")",
                "[ERROR] InnoDB: Operating system error number 5 in a file operation.",
                "[ERROR] InnoDB: Error number 5 means 'Input/output error'",
                "[ERROR] InnoDB: Plugin initialization aborted with error I/O error",
            ],
        );
    }

    #[test]
    fn another_server_in_the_way_says_nothing_of_the_backup() {
        all_are(
            ErrorKind::Refused,
            "Another server uses",
            &[
                "[ERROR] Can't start server : Bind on unix socket: Address already in use",
                "[ERROR] Another process is already listening on the socket file '/s/sock'. Aborting.",
                "[ERROR] mariadbd: Got error 'Could not get an exclusive lock; file is probably in use by another process' when trying to use aria control file '/s/aria_log_control'",
                "[ERROR] InnoDB: Unable to lock ./ibdata1 error: 11",
            ],
        );
    }

    #[test]
    fn an_end_from_outside_says_nothing_of_the_backup_and_a_crash_does() {
        let damaged = "0 [ERROR] InnoDB: Failing assertion: srv_available_undo_logs > 0\n";
        for sent in [
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGQUIT,
            libc::SIGTERM,
            libc::SIGKILL,
            libc::SIGXFSZ,
        ] {
            let error = judged(ExitStatus::from_raw(sent), damaged);
            assert_eq!(error.kind(), ErrorKind::Refused, "signal {sent}");
        }
        let shut_down = "0 [Note] mariadbd: Shutdown complete\n";
        assert_eq!(judged(EXITED(0), shut_down).kind(), ErrorKind::Refused);
        for crash in [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS] {
            let error = judged(ExitStatus::from_raw(crash), damaged);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "signal {crash}");
        }
    }

    #[test]
    fn whatever_else_it_ends_of_is_damage() {
        all_are(
            ErrorKind::Corrupt,
            ENDED,
            &[
                "[ERROR] InnoDB: Space id and page no stored in the page, read in from ./ibdata1 are [page id: space=504422022, page number=610191926], should be [page id: space=0, page number=7]",
                "[ERROR] InnoDB: Plugin initialization aborted with error Page read from tablespace is corrupted.",
                "[ERROR] InnoDB: The Auto-extending data file './ibdata1' is of a different size 64 pages than specified by innodb_data_file_path",
                "[ERROR] InnoDB: The size of the file ./mysql/innodb_table_stats.ibd is only 20000 bytes, should be at least 65536",
                "[ERROR] mariadbd: Can't find file: './shop/t.ibd' (errno: 2 \"No such file or directory\")",
                "[ERROR] InnoDB: Operating system error number 53 in a file operation.",
                // The server goes on after these.
                "[Warning] Can't open and lock time zone table: Got error 24 \"Too many open files\" from storage engine Aria trying to live without them",
                "[Warning] Can't create test file '/s/vm.lower-test' (Errcode: 30 \"Read-only file system\")",
            ],
        );
    }
}
