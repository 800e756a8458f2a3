//! A fixed number of things that threads borrow: pack buffers, and places in the pipeline. It is
//! what bounds the memory of a transfer. Closing it lets every waiting thread go.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct State<T> {
    free: Vec<T>,
    closed: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
pub(super) struct Pool<T>(Arc<Shared<T>>);

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Pool<T> {
    pub fn new(things: impl IntoIterator<Item = T>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                free: things.into_iter().collect(),
                closed: false,
            }),
            changed: Condvar::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, on a thread that may block, until something is free; `None`: the pool was closed.
    pub fn take(&self) -> Option<Lent<T>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(thing) = state.free.pop() {
                return Some(Lent {
                    thing: Some(thing),
                    pool: self.clone(),
                });
            }
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    /// Closes the pool when the guard is dropped.
    pub fn close_on_drop(&self) -> CloseOnDrop<T> {
        CloseOnDrop(self.clone())
    }
}

pub(super) struct CloseOnDrop<T>(Pool<T>);

impl<T> Drop for CloseOnDrop<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Something borrowed; it goes back when this is dropped.
#[derive(Debug)]
pub(super) struct Lent<T> {
    /// Only empty while it is dropped.
    thing: Option<T>,
    pool: Pool<T>,
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            self.pool.lock().free.push(thing);
            self.pool.0.changed.notify_one();
        }
    }
}

impl AsRef<[u8]> for Lent<Vec<u8>> {
    fn as_ref(&self) -> &[u8] {
        self.thing.as_deref().unwrap_or_default()
    }
}

impl AsMut<[u8]> for Lent<Vec<u8>> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.thing.as_deref_mut().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_comes_back_and_closing_wakes_the_waiting() {
        let pool = Pool::new([vec![1_u8]]);
        let lent = pool.take().unwrap();
        let waiting = std::thread::spawn({
            let pool = pool.clone();
            move || pool.take().map(|l| l.as_ref().to_vec())
        });
        drop(lent);
        assert_eq!(waiting.join().unwrap(), Some(vec![1]));
        let _held = pool.take().unwrap();
        let waiting = std::thread::spawn({
            let pool = pool.clone();
            move || pool.take().is_none()
        });
        drop(pool.close_on_drop());
        assert!(waiting.join().unwrap());
    }
}
