//! Plays a sequence against the student's memory of tokens, and measures how much it holds on to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::student::ReplayCache;

/// Counts what is allocated and not freed.
struct CountingAllocator;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

// SAFETY: every call goes to the system's allocator as it came; only numbers are kept.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

/// `MOST;JTI,EXP,NOW;…` in; `y` or `n` for each, and the bytes that are held at the end, out. A jti `LETTER*NUMBER` is so
/// many of that letter.
pub fn answer(question: &str) -> String {
    let mut parts = question.split(';');
    let capacity = parts.next().and_then(|capacity| capacity.parse().ok()).expect("a number");
    let tokens: Vec<(String, u64, u64)> = parts.map(read).collect();
    let mut answers = String::with_capacity(tokens.len() + 32);
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut cache = ReplayCache::new(capacity);
    for (jti, exp, now) in &tokens {
        answers.push(if cache.accept(jti, *exp, *now) { 'y' } else { 'n' });
    }
    let retained = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
    drop(cache);
    format!("{answers}|{retained}")
}

fn read(text: &str) -> (String, u64, u64) {
    let [jti, exp, now] = text.split(',').collect::<Vec<_>>()[..] else { unreachable!() };
    let jti = match jti.split_once('*') {
        Some((letter, times)) => letter.repeat(times.parse().expect("a number")),
        None => jti.to_owned(),
    };
    (jti, exp.parse().expect("a number"), now.parse().expect("a number"))
}
