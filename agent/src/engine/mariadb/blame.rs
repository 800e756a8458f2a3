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
        // "I/O error" is InnoDB's own word, also for a file that is too short.
        errors: &[libc::EIO],
        phrases: &[DISK_FAILS],
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

const DISK_FAILS: &str = "Input/output error";

/// Before the number of an error of the operating system.
const NUMBERED: [&str; 5] = [
    "Errcode: ",
    "error number ",
    "Error number ",
    "operating system error ",
    "failed with error ",
];
/// Before the number of such an error, or of one of the server's own.
const NUMBERED_EITHER_WAY: [&str; 2] = ["errno: ", "Got error "];
/// The server's own errors have this number or a higher one.
const OWN_ERRORS: i32 = 120;

/// A file is shorter than it says: that is damage. The number that the server writes before it is
/// of whatever failed last, unless that was the disk.
const READ_SHORT: &str = "only able to read";
/// In how many lines before it the disk's own error is told.
const LINES_BEFORE: usize = 2;

/// Of the errors before a crash these may be its reason: servers survive much of what they tell.
const ERRORS_BEFORE_CRASH: usize = 2;
/// Whatever was told before this was survived.
const SERVES: &str = "ready for connections";

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
    let crashed = status.signal().is_some();
    let of_machine = match crashed {
        true => of_this_machine(&last_errors(said), what),
        false => of_this_machine(said, what),
    };
    if let Some(error) = of_machine {
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
    if reads_short(said) {
        return None;
    }
    let of = |cause: &&Cause| said.lines().any(|line| cause.is_in(line));
    let cause = CAUSES.iter().find(of)?;
    Some(not_tested(cause.kind, what).hint(cause.hint))
}

/// What a server told of last before it crashed.
fn last_errors(said: &str) -> String {
    let since = said.rsplit_once(SERVES).map_or(said, |(_, since)| since);
    let is_told = |line: &&str| {
        // That it crashed is told as an error too.
        let is_error = line.contains("[ERROR]") || line.contains("[FATAL]");
        is_error && !line.contains("got signal ")
    };
    let told: Vec<&str> = since.lines().filter(is_told).collect();
    told[told.len().saturating_sub(ERRORS_BEFORE_CRASH)..].join("\n")
}

fn reads_short(said: &str) -> bool {
    let lines: Vec<&str> = said.lines().collect();
    lines.iter().enumerate().any(|(number, line)| {
        let mut before = lines[number.saturating_sub(LINES_BEFORE)..number].iter();
        let disk_fails = |line: &&str| line.contains(DISK_FAILS) || names_error(line, libc::EIO);
        line.contains(READ_SHORT) && !before.any(disk_fails)
    })
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

/// Whether a line names the operating system's error with this number, and not one whose number only
/// begins so.
fn names_error(line: &str, number: i32) -> bool {
    let either_way: &[&str] = match number < OWN_ERRORS {
        true => &NUMBERED_EITHER_WAY,
        false => &[],
    };
    let number = number.to_string();
    NUMBERED.iter().chain(either_way).any(|before| {
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
                // The server takes the number for one of its own, and is wrong.
                "[ERROR] mariadbd: Error writing file './ddl_recovery.log' (Errcode: 122 \"Internal (unspecified) error in handler\")",
                "[ERROR] mariadbd: Can't create file 'x' (errno: 122 \"Disk quota exceeded\")",
                "[ERROR] [FATAL] InnoDB: pwrite(\"ib_logfile0\") returned -1, operating system error 28",
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
                "[ERROR] InnoDB: pread(\"ib_logfile0\") returned -1, operating system error 5",
                "[ERROR] InnoDB: Operating system error number 5 in a file operation.\n\
                 2026-11-26  2:47:37 0 [ERROR] InnoDB: Error number 5 means 'Input/output error'\n\
                 2026-11-26  2:47:37 0 [ERROR] InnoDB: Tried to read 16384 bytes at offset 0 of file ./undo001, but was only able to read 0",
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
    fn a_crash_is_of_this_machine_only_when_that_was_told_last() {
        const FULL: &str =
            "0 [ERROR] InnoDB: Operating system error number 28 in a file operation.\n";
        const OPEN_FILES: &str = "7 [ERROR] mariadbd: Can't open file: './shop/t.frm' (errno: 24 \"Too many open files\")\n";
        const DAMAGED: &str = "7 [ERROR] InnoDB: File './shop/a.ibd' is corrupted\n";
        const SERVES: &str = "0 [Note] mariadbd: ready for connections.\n";
        const CRASHES: &str = "0x7f51c4 InnoDB: Assertion failure in file fil0fil.cc line 2\n\
             InnoDB: Failing assertion: err == DB_SUCCESS\n\
             261126  2:47:37 [ERROR] mariadbd got signal 6 ;\n\
             Attempting backtrace. Include this in the bug report.\n";
        let judged = |told: &[&str]| {
            let said = [told, &[CRASHES]].concat().concat();
            judged(ExitStatus::from_raw(libc::SIGABRT), &said).kind()
        };
        assert_eq!(judged(&[DAMAGED, FULL]), ErrorKind::Exhausted);
        let consequence = "0 [ERROR] [FATAL] InnoDB: Unable to write\n";
        assert_eq!(judged(&[SERVES, FULL, consequence]), ErrorKind::Exhausted);
        assert_eq!(judged(&[]), ErrorKind::Corrupt);
        // It survived these.
        for survived in [FULL, OPEN_FILES] {
            let later = [survived, DAMAGED, DAMAGED];
            assert_eq!(judged(&later), ErrorKind::Corrupt, "{survived}");
            let started = [survived, SERVES];
            assert_eq!(judged(&started), ErrorKind::Corrupt, "{survived}");
        }
    }

    #[test]
    fn what_check_table_says_is_the_tables_unless_it_is_the_systems() {
        let judged = |text| of_this_machine(text, "CHECK TABLE a.t").map(|error| error.kind());
        for text in [
            "Got error 122 \"Internal (unspecified) error in handler\" from storage engine InnoDB",
            "Got error 175 \"File too short; Expected more data in file\" from storage engine Aria",
            "Incorrect key file for table './a/t.MYI'; try to repair it",
            "Corrupt",
        ] {
            assert_eq!(judged(text), None, "{text}");
        }
        let open_files = "Got error 24 \"Too many open files\" from storage engine MyISAM";
        assert_eq!(judged(open_files), Some(ErrorKind::Refused));
    }

    #[test]
    fn a_file_that_is_too_short_is_damage_whatever_had_failed_before() {
        all_are(
            ErrorKind::Corrupt,
            ENDED,
            &[
                // Of a short system tablespace it says no more than this, of a short log this.
                "[ERROR] InnoDB: Plugin initialization aborted with error I/O error",
                "[ERROR] InnoDB: pread(\"ib_logfile0\") returned 0, operating system error 0",
                // Short files, and what had failed before they were read.
                "[ERROR] InnoDB: Tried to read 16384 bytes at offset 0 of file ./undo001, but was only able to read 0",
                "[ERROR] InnoDB: Operating system error number 11 in a file operation.\n\
                 2026-11-26  2:47:37 0 [ERROR] InnoDB: Error number 11 means 'Resource temporarily unavailable'\n\
                 2026-11-26  2:47:37 0 [ERROR] InnoDB: Tried to read 16384 bytes at offset 0 of file ./undo001, but was only able to read 8192",
            ],
        );
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
                // The server's own errors, which are numbered from 120 on.
                "[ERROR] mariadbd: Can't open file: './shop/t.frm' (errno: 122 \"Internal (unspecified) error in handler\")",
                "[ERROR] Got error 122 \"Internal (unspecified) error in handler\" from storage engine InnoDB",
                // The server goes on after these.
                "[Warning] Can't open and lock time zone table: Got error 24 \"Too many open files\" from storage engine Aria trying to live without them",
                "[Warning] Can't create test file '/s/vm.lower-test' (Errcode: 30 \"Read-only file system\")",
            ],
        );
    }
}
