//! Candle's threads beside ours.
#![allow(unsafe_code)] // a variable of the environment, set while nobody else is there to read it

use candle_core::utils::barrier_pool;

/// What candle reads the size of its pool from.
const THREADS: &str = "CANDLE_NUM_THREADS";

/// Has candle make its elementwise operations on the thread that asks for them, for the rest of the program; returns whether
/// it will.
///
/// By default candle shares operations on 65,536 numbers or more among threads of its own, which wait for work by spinning,
/// and one caller at a time gets them. That is good for one thread that does everything. Where each core has a batch of its
/// own, as this crate's operations want it, the cores wait for each other in every sum of gradients, and the spinning threads
/// take time from them: a training step takes a fourth longer.
///
/// Call it first thing in `main`. It does nothing if `CANDLE_NUM_THREADS` is set, if the program has more than one thread
/// already, or if it can't know that it has but one (elsewhere than on Linux); set the variable to 1 there.
///
/// ```standalone_crate
/// use candle_core::{Device, Tensor};
///
/// let kept = skn_kernels::keep_candle_on_calling_thread();
/// assert!(kept || !cfg!(target_os = "linux"));
/// let many = Tensor::ones(1 << 17, candle_core::DType::F32, &Device::Cpu)?;
/// assert_eq!((&many + &many)?.sum_all()?.to_scalar::<f32>()?, (1 << 18) as f32);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn keep_candle_on_calling_thread() -> bool {
    if let Some(threads) = std::env::var_os(THREADS) {
        return threads == "1";
    }
    if !is_only_thread() {
        return false;
    }
    // SAFETY: there is no other thread that could read the environment, and candle starts none when it reads 1.
    unsafe { std::env::set_var(THREADS, "1") };
    let alone = barrier_pool().n_workers() == 0;
    // SAFETY: as above. Programs that this one starts are not to inherit it.
    unsafe { std::env::remove_var(THREADS) };
    alone
}

#[cfg(target_os = "linux")]
pub(crate) fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_only_thread() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_several_threads_is_left_alone() {
        if std::env::var_os(THREADS).is_none() {
            let kept = std::thread::spawn(keep_candle_on_calling_thread).join();
            assert!(kept.is_ok_and(|kept| !kept));
            assert!(std::env::var_os(THREADS).is_none());
        }
    }
}
