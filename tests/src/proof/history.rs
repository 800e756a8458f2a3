//! What clients asked and were answered, in the order in which it happened.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Call<Op, Ret> {
    pub client: u64,
    pub op: Op,
    /// Place of its beginning among all beginnings and ends.
    pub invoked: u64,
    /// Place of its end, and the answer; none: it is not known what came of it.
    pub returned: Option<(u64, Ret)>,
}

/// Places in the one order of everything that clients did.
#[derive(Clone, Default)]
pub struct Order(Arc<Mutex<u64>>);

impl Order {
    fn next(&self) -> u64 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        *last
    }

    pub fn length(&self) -> u64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls of one kind.
pub struct History<Op, Ret> {
    order: Order,
    calls: Arc<Mutex<Vec<Call<Op, Ret>>>>,
}

impl<Op, Ret> Clone for History<Op, Ret> {
    fn clone(&self) -> Self {
        Self {
            order: self.order.clone(),
            calls: self.calls.clone(),
        }
    }
}

impl<Op: Clone + std::fmt::Debug, Ret: Clone + std::fmt::Debug> History<Op, Ret> {
    pub fn new(order: &Order) -> Self {
        Self {
            order: order.clone(),
            calls: Arc::default(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Call<Op, Ret>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the beginning of a call; answers its number.
    pub fn invoke(&self, client: u64, op: Op) -> usize {
        let invoked = self.order.next();
        let mut calls = self.locked();
        calls.push(Call {
            client,
            op,
            invoked,
            returned: None,
        });
        calls.len() - 1
    }

    pub fn returned(&self, call: usize, ret: Ret) {
        let returned = self.order.next();
        self.locked()[call].returned = Some((returned, ret));
    }

    pub fn calls(&self) -> Vec<Call<Op, Ret>> {
        self.locked().clone()
    }

    /// How many calls have begun.
    pub fn length(&self) -> u64 {
        self.locked().len() as u64
    }

    /// The same for the same history.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.locked()).hash(&mut hasher);
        hasher.finish()
    }
}

/// A list that many tasks add to.
pub struct Shared<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Shared<T> {
    pub fn push(&self, item: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(item);
    }

    pub fn all(&self) -> Vec<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
