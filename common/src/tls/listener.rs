//! Accepts connections for a server, with TLS when there is any. Bounded: so many connections, each
//! with so much time to shake hands. One that is too slow or not welcome holds up no other.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Connection, Port, Tls, farewell, plain_text};
use crate::error::{Error, Result};

/// How long a connection may take to shake hands.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Connections that have shaken hands and wait for the server to take them.
const WAITING_MAX: usize = 64;
/// The machine has no more files or memory for connections: others must end first.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub connections_max: usize,
    pub handshake: Duration,
}

impl ConnectionLimits {
    pub const fn new(connections_max: usize) -> Self {
        Self {
            connections_max,
            handshake: HANDSHAKE_LIMIT,
        }
    }
}

/// How many connections there are and were.
#[derive(Clone, Debug)]
pub struct ConnectionNumbers {
    places: Arc<Semaphore>,
    connections_max: usize,
    refused: Arc<AtomicU64>,
}

impl ConnectionNumbers {
    pub fn open(&self) -> u64 {
        let open = self.connections_max - self.places.available_permits();
        open.try_into().unwrap_or(u64::MAX)
    }

    /// Closed at once, because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

pub struct Listener {
    ready: mpsc::Receiver<Connection>,
    address: SocketAddr,
    numbers: ConnectionNumbers,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// Connections wait in the system's queue until this is called.
    pub fn start(
        listener: TcpListener,
        tls: Tls,
        port: Port,
        limits: ConnectionLimits,
    ) -> Result<Self> {
        let address = listener
            .local_addr()
            .map_err(|e| Error::internal(format!("a listener without an address: {e}")))?;
        let (done, ready) = mpsc::channel(WAITING_MAX);
        let numbers = ConnectionNumbers {
            places: Arc::new(Semaphore::new(limits.connections_max)),
            connections_max: limits.connections_max,
            refused: Arc::default(),
        };
        let door = Door {
            tls,
            port,
            limits,
            numbers: numbers.clone(),
            done,
            told: Arc::default(),
        };
        Ok(Self {
            ready,
            address,
            numbers,
            accepting: tokio::spawn(accept(listener, door)),
        })
    }

    pub fn numbers(&self) -> ConnectionNumbers {
        self.numbers.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// For the gRPC server.
impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(task).map(|ready| ready.map(Ok))
    }
}

/// For the HTTP server.
impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => {
                let address = connection.peer().address;
                (connection, address)
            }
            // The task that accepts ends only with this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[derive(Clone)]
struct Door {
    tls: Tls,
    port: Port,
    limits: ConnectionLimits,
    numbers: ConnectionNumbers,
    done: mpsc::Sender<Connection>,
    told: Arc<Told>,
}

/// Of connections that are turned away a line is written now and then: whoever tries all the time
/// must not fill the log.
#[derive(Default)]
struct Told {
    last: Mutex<Option<Instant>>,
    untold: AtomicU64,
}

const TOLD_EVERY: Duration = Duration::from_secs(1);

impl Told {
    fn tell(&self, address: SocketAddr, error: &Error) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *last = Some(Instant::now());
        match self.untold.swap(0, Ordering::Relaxed) {
            0 => tracing::warn!("{address} is turned away: {error}"),
            others => tracing::warn!("{address} is turned away, and {others} before: {error}"),
        }
    }
}

async fn accept(listener: TcpListener, door: Door) {
    let mut is_full = false;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The caller has gone again; the next one may be there.
            Err(e) if is_the_callers(&e) => continue,
            Err(e) => {
                tracing::error!("cannot accept connections: {e}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Ok(place) = door.numbers.places.clone().try_acquire_owned() else {
            door.numbers.refused.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut is_full, true) {
                tracing::warn!(
                    "{} connections are open: {address} and others are refused until some end",
                    door.limits.connections_max
                );
            }
            continue;
        };
        is_full = false;
        let door = door.clone();
        tokio::spawn(async move {
            match door.admit(stream, address).await {
                // Fails only when the server has ended.
                Ok(Some(connection)) => {
                    let _ = door.done.send(connection.holding(place)).await;
                }
                Ok(None) => {}
                Err(e) => door.told.tell(address, &e),
            }
        });
    }
}

fn is_the_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

impl Door {
    /// None: it has been told that TLS is spoken here, or has gone.
    async fn admit(&self, stream: TcpStream, address: SocketAddr) -> Result<Option<Connection>> {
        let broken = |e: io::Error| Error::unavailable(e.to_string());
        stream.set_nodelay(true).map_err(broken)?;
        let Some(config) = self.tls.server(self.port) else {
            return Ok(Some(Connection::plain(stream, address)));
        };
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await.map_err(broken)? == 0 {
                return Ok(None);
            }
            if !plain_text::begins_tls(first[0]) {
                plain_text::refuse(stream).await;
                return Err(Error::invalid("it does not speak TLS"));
            }
            let accepted = TlsAcceptor::from(config).accept(stream).into_fallible();
            match accepted.await {
                Ok(stream) => Connection::tls(stream.into(), address).map(Some),
                Err((e, stream)) => {
                    // The alert that says why has been written.
                    farewell::close(stream).await;
                    Err(broken(e))
                }
            }
        };
        let limit = self.limits.handshake;
        timeout(limit, handshake)
            .await
            .map_err(|_| Error::timeout(format!("it did not shake hands within {limit:?}")))?
    }
}
