//! Plays a sequence against the student's memory of tokens, and measures how much it holds on to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::student::Used;

/// Counts what is allocated and not freed.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came; only numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

/// `MOST;JTI,EXP,NOW;…` in; `y` or `n` for each, and the bytes that are held at the end, out. A jti `LETTER*NUMBER` is so
/// many of that letter.
pub fn answer(question: &str) -> String {
    let mut parts = question.split(';');
    let most = parts.next().and_then(|most| most.parse().ok()).expect("a number");
    let asked: Vec<(String, u64, u64)> = parts.map(read).collect();
    let mut said = String::with_capacity(asked.len() + 32);
    let before = HELD.load(Ordering::Relaxed);
    let mut used = Used::new(most);
    for (jti, exp, now) in &asked {
        said.push(if used.take(jti, *exp, *now) { 'y' } else { 'n' });
    }
    let held = HELD.load(Ordering::Relaxed).saturating_sub(before);
    drop(used);
    format!("{said}|{held}")
}

fn read(text: &str) -> (String, u64, u64) {
    let [jti, exp, now] = text.split(',').collect::<Vec<_>>()[..] else { unreachable!() };
    let jti = match jti.split_once('*') {
        Some((letter, times)) => letter.repeat(times.parse().expect("a number")),
        None => jti.to_owned(),
    };
    (jti, exp.parse().expect("a number"), now.parse().expect("a number"))
}
