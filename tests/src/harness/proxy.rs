//! A network between a program and a server, which fails on command and once each time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// What happens next, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The connection breaks when so many more bytes of requests have come by.
    RequestAfter(usize),
    /// The next request arrives, and its answer does not.
    Answer,
    /// The next request never arrives, and nothing breaks.
    Hang,
}

#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    next: Arc<Mutex<Vec<Cut>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let next = Arc::new(Mutex::new(Vec::new()));
        let (target, cuts) = (target.to_owned(), Arc::clone(&next));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&target).await {
                    tokio::spawn(carry(client, server, Arc::clone(&cuts)));
                }
            }
        });
        Ok(Self {
            address,
            next,
            task,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// These happen next, one after the other.
    pub fn cut(&self, cuts: &[Cut]) {
        lock(&self.next).extend(cuts.iter().rev());
    }

    /// Whether everything has happened that was to happen.
    pub fn is_through(&self) -> bool {
        lock(&self.next).is_empty()
    }

    pub fn forgive(&self) {
        lock(&self.next).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(cuts: &Mutex<Vec<Cut>>) -> MutexGuard<'_, Vec<Cut>> {
    cuts.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn carry(client: TcpStream, server: TcpStream, cuts: Arc<Mutex<Vec<Cut>>>) {
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    // Either way that ends takes the other with it: the connection is gone.
    tokio::select! {
        () = requests(from_client, to_server, &cuts) => {}
        () = answers(from_server, to_client, &cuts) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cuts: &Mutex<Vec<Cut>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mut hangs = false;
        {
            let mut cuts = lock(cuts);
            match cuts.last_mut() {
                Some(Cut::RequestAfter(left)) if *left < count => {
                    cuts.pop();
                    return;
                }
                Some(Cut::RequestAfter(left)) => *left -= count,
                Some(Cut::Hang) => {
                    cuts.pop();
                    hangs = true;
                }
                _ => {}
            }
        }
        if hangs {
            // Until the client goes away.
            while let Ok(1..) = from.read(&mut buffer).await {}
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cuts: &Mutex<Vec<Cut>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        {
            let mut cuts = lock(cuts);
            if cuts.last() == Some(&Cut::Answer) {
                cuts.pop();
                return;
            }
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
