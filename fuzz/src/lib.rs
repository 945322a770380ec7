//! Code that the fuzz targets share: a limit on memory, and frames.
//!
//! Each target decodes bytes as the product does. It checks that nothing panics, that memory stays within the limit of
//! [`bounded`], and that a decoded message is the same after it was encoded and decoded again.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fmt::Debug,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use jq_common::codec::{self, Frame, FrameError};

/// Bytes that a decoder may hold for any input.
const BASE: usize = 64 * 1024;

/// Bytes that it may hold for each byte of input.
const FACTOR: usize = 4;

/// Counts allocated bytes. Targets run on one thread.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

fn grown(by: usize) {
    let held = HELD.fetch_add(by, Ordering::Relaxed) + by;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: each call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block may exist at the same time.
        grown(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work`. Returns its result, and the most bytes that it held at any time.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let result = work();
    (result, MOST.load(Ordering::Relaxed).saturating_sub(before))
}

/// Runs `work` on an input of `length` bytes.
///
/// # Panics
/// When it allocates more than four times the input plus 64 KiB.
pub fn bounded<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let (result, most) = measured(work);
    assert!(
        most <= FACTOR * length + BASE,
        "{most} bytes were held for an input of {length}"
    );
    result
}

/// The result of a future that is ready at once.
///
/// # Panics
/// When it is pending.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the future is pending"),
    }
}

/// Decodes one frame, as the product does.
///
/// # Panics
/// When the message is not the same after encoding and decoding.
pub fn frame<T>(data: &[u8], limit: usize) -> Result<T, FrameError>
where
    T: Frame + PartialEq + Debug,
{
    let message = bounded(data.len(), || now(codec::read::<T>(&mut &*data, limit)))?;
    // A message from a newer peer can be decoded but not encoded. Defaults make an encoded message longer than the input.
    let Ok(wire) = codec::encode(&message, usize::MAX) else {
        return Ok(message);
    };
    let again = now(codec::read::<T>(&mut &*wire, usize::MAX)).expect("an encoded message can be decoded");
    assert_eq!(again, message);
    Ok(message)
}

/// As [`frame`], for a body without its length. None when it is unreadable.
pub fn body<T>(data: &[u8], limit: usize) -> Option<T>
where
    T: Frame + PartialEq + Debug,
{
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut wire = length.to_be_bytes().to_vec();
    wire.extend_from_slice(data);
    frame(&wire, limit).ok()
}
