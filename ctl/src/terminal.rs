//! Asks the person before the terminal for a passphrase. What is typed does not show, and Ctrl-C
//! leaves the terminal as it was.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use seawall_common::{
    Error, Result,
    repository::{Passphrase, Prompt},
};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

const LINE_BYTES_MAX: u64 = 8 << 10;

/// The terminal of this process, wherever its input and output go.
pub struct Terminal;

#[async_trait::async_trait]
impl Prompt for Terminal {
    async fn ask(&self, what: &str) -> Result<Passphrase> {
        ask(&format!("Passphrase of {what}: "), what).await
    }

    fn warn(&self, what: &str) {
        eprintln!("seawallctl: WARNING: {what}");
    }
}

/// For a passphrase that is set: a slip of the finger would lock its owner out.
pub async fn ask_twice() -> Result<Passphrase> {
    let what = "the new identity";
    let first = ask("New passphrase: ", what).await?;
    let again = ask("The same again: ", what).await?;
    if first.is_same(&again) {
        return Ok(first);
    }
    Err(Error::invalid("the two passphrases differ").hint("Nothing was written: begin again."))
}

async fn ask(question: &str, what: &str) -> Result<Passphrase> {
    let mut terminal = open(what)?;
    let cannot = |e: &dyn std::fmt::Display| {
        Error::invalid(format!("cannot ask for the passphrase of {what}: {e}"))
    };
    let quiet = Quiet::new(&terminal).map_err(|e| cannot(&e))?;
    terminal
        .write_all(question.as_bytes())
        .map_err(|e| cannot(&e))?;
    let input = terminal.try_clone().map_err(|e| cannot(&e))?;
    let (answer_out, answer) = oneshot::channel();
    // A thread of its own, which nobody waits for: a read of a terminal cannot be called off.
    std::thread::spawn(move || answer_out.send(read_line(input)));
    let line = tokio::select! {
        line = answer => line.map_err(|e| cannot(&e))?.map_err(|e| cannot(&e))?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Error::cancelled("no passphrase was given"));
        }
    };
    drop(quiet);
    Passphrase::new(line.trim_end_matches(['\n', '\r']), "the passphrase")
}

fn open(what: &str) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/tty");
    opened.map_err(|_| {
        Error::invalid(format!(
            "there is no terminal to ask for the passphrase of {what}"
        ))
        .hint("Give it by --repository-passphrase-file, --repository-passphrase-fd or SEAWALL_PASSPHRASE.")
    })
}

fn read_line(terminal: File) -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(terminal.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// While this lives the terminal does not show what is typed.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn new(terminal: &File) -> std::io::Result<Self> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut now = before.clone();
        now.local_flags.remove(LocalFlags::ECHO);
        now.local_flags.insert(LocalFlags::ECHONL);
        // What was typed ahead is not taken for the answer.
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &now)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing put back.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}
