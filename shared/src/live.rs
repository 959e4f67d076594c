//! Settings that change while a program runs, as its configuration file does.

use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::RwLock;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// A setting that is read each time it is used. Cheap to clone; all clones have the same value.
#[derive(Debug, Clone)]
pub struct Live<T>(Arc<RwLock<T>>);

impl<T: Copy> Live<T> {
    /// Returns a setting with its first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    /// Returns the value as it is now.
    pub fn get(&self) -> T {
        *self.0.read()
    }

    /// Changes the value, for all clones, and returns the one before.
    pub fn set(&self, value: T) -> T {
        std::mem::replace(&mut *self.0.write(), value)
    }
}

/// A number of permits that changes while some are in use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Permits {
    max: Live<usize>,
    free: Arc<Semaphore>,
}

impl Permits {
    /// Returns so many permits.
    pub fn new(max: usize) -> Self {
        Self {
            max: Live::new(max),
            free: Arc::new(Semaphore::new(max)),
        }
    }

    /// Changes their number. Those in use beyond it are withdrawn when they are given back, before anybody gets one who
    /// asks from now on. Must be called inside a tokio runtime.
    pub fn set_max(&self, max: usize) {
        let before = self.max.set(max);
        self.free.add_permits(max.saturating_sub(before));
        let surplus = before.saturating_sub(max);
        let in_use = surplus - self.free.forget_permits(surplus);
        if let Ok(in_use @ 1..) = u32::try_from(in_use) {
            let free = Arc::clone(&self.free);
            let mut withdrawn = Box::pin(free.acquire_many_owned(in_use));
            // It queues up now, and not when the task begins. An error cannot be: the semaphore is never closed.
            match withdrawn.as_mut().now_or_never() {
                Some(permits) => drop(permits.map(OwnedSemaphorePermit::forget)),
                None => drop(tokio::spawn(async move {
                    withdrawn.await.map(OwnedSemaphorePermit::forget)
                })),
            }
        }
    }

    /// Waits for a permit, in the order of asking; dropping it gives it to the next one.
    pub async fn acquire(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.expect("nobody closes the semaphore")
    }

    /// Takes a permit, if one is free.
    pub fn acquire_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Returns how many there are.
    pub fn max(&self) -> usize {
        self.max.get()
    }

    /// Returns how many are free.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_permits_are_there_at_once_and_fewer_once_those_in_use_are_given_back() {
        let permits = Permits::new(1);
        let first = permits.acquire().await;
        let (second, ()) = tokio::join!(permits.acquire(), async { permits.set_max(2) });

        permits.set_max(1);
        drop(first);
        let none = tokio::time::timeout(std::time::Duration::from_millis(50), permits.acquire()).await;
        assert!(none.is_err(), "one of two was withdrawn");
        drop(second);
        let third = permits.acquire().await;

        assert_eq!((permits.max(), permits.free()), (1, 0));
        drop(third);
        assert_eq!(permits.free(), 1);
    }
}
