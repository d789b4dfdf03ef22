//! What work uploads, noted while it is done, and given again while it is captured.

use std::cell::{Cell, RefCell};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, Result, Shape, Tensor, WithDType, bail};

thread_local! {
    static NOTES: RefCell<Notes> = const { RefCell::new(Notes::None) };
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// What this thread does with uploads.
#[derive(Default)]
enum Notes {
    /// Nothing of it is kept.
    #[default]
    None,
    /// They are noted. Numbers that lie here on the host are those that change.
    Noting { changes: (usize, usize), noted: Noted },
    /// What was noted is given, and nothing is uploaded.
    Giving { changes: (usize, usize), noted: Noted },
}

/// What work uploaded.
#[derive(Clone, Default)]
pub(crate) struct Noted {
    uploads: Vec<Upload>,
    /// What else must be there as long as the work may be done again.
    held: Vec<Tensor>,
}

#[derive(Clone)]
struct Upload {
    /// As they were uploaded; nothing of numbers that change.
    numbers: Option<Vec<u8>>,
    tensor: Tensor,
}

impl Noted {
    /// Where the numbers lie on the device that change.
    pub(crate) fn changing(&self) -> impl Iterator<Item = &Tensor> {
        self.uploads.iter().filter(|upload| upload.numbers.is_none()).map(|upload| &upload.tensor)
    }
}

/// Where numbers lie on the host, and how many they are. Two slices that are there at a time and are not empty have no place in
/// common unless they are one.
fn place<T>(numbers: &[T]) -> (usize, usize) {
    (numbers.as_ptr() as usize, numbers.len())
}

/// Does work and notes what it uploads; `changes` are those of its numbers that will be others when it is done again.
pub(crate) fn noting<T, E>(
    changes: &[u32],
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<(T, Noted), E> {
    let (done, noted) = within(Notes::Noting { changes: place(changes), noted: Noted::default() }, work);
    Ok((done?, noted))
}

/// Does work once more, which is given what it uploaded, and uploads nothing.
pub(crate) fn giving<T>(changes: &[u32], noted: Noted, work: impl FnOnce() -> T) -> (T, Noted) {
    within(Notes::Giving { changes: place(changes), noted }, work)
}

fn within<T>(notes: Notes, work: impl FnOnce() -> T) -> (T, Noted) {
    /// What was there before comes back, whatever ends the work.
    struct Before(Notes);
    impl Drop for Before {
        fn drop(&mut self) {
            NOTES.with_borrow_mut(|notes| std::mem::swap(notes, &mut self.0));
        }
    }
    let mut before = Before(notes);
    NOTES.with_borrow_mut(|notes| std::mem::swap(notes, &mut before.0));
    let done = work();
    let notes = NOTES.with_borrow_mut(std::mem::take);
    let noted = match notes {
        Notes::Noting { noted, .. } | Notes::Giving { noted, .. } => noted,
        Notes::None => Noted::default(),
    };
    (done, noted)
}

/// Numbers on a device: those that were noted, or uploaded now.
pub(crate) fn or_upload<T: WithDType>(
    numbers: &[T],
    shape: &Shape,
    upload: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    let here = place(numbers);
    let asked = NOTES.with_borrow(|notes| {
        Ok::<_, candle_core::Error>(match notes {
            Notes::None => Asked::Upload,
            Notes::Noting { changes, .. } if *changes == here => Asked::Note(None),
            Notes::Noting { .. } => Asked::Note(Some(bytes_of(numbers)?)),
            Notes::Giving { changes, noted } => {
                let wanted = if *changes == here { None } else { Some(bytes_of(numbers)?) };
                let same = |upload: &&Upload| {
                    upload.numbers == wanted
                        && upload.tensor.dtype() == T::DTYPE
                        && upload.tensor.shape() == shape
                };
                Asked::Give(noted.uploads.iter().find(same).map(|upload| upload.tensor.clone()))
            }
        })
    })?;
    match asked {
        Asked::Upload => upload(),
        Asked::Give(Some(tensor)) => Ok(tensor),
        Asked::Give(None) => {
            bail!("{} numbers {shape:?} that were not uploaded when the same was done before", numbers.len())
        }
        Asked::Note(numbers) => {
            let tensor = upload()?;
            let upload = Upload { numbers, tensor: tensor.clone() };
            NOTES.with_borrow_mut(|notes| {
                if let Notes::Noting { noted, .. } = notes {
                    noted.uploads.push(upload);
                }
            });
            Ok(tensor)
        }
    }
}

/// What is done instead of an upload.
enum Asked {
    /// Just that.
    Upload,
    /// That, and it is noted, with the numbers that may not change.
    Note(Option<Vec<u8>>),
    /// What was uploaded before is given, if it was.
    Give(Option<Tensor>),
}

/// Keeps a tensor of others, who may let it go, as long as the work that is noted may be done again: when it is noted, and when it is
/// done again with another one, which a capture then reads.
pub(crate) fn hold(tensor: &Tensor) {
    NOTES.with_borrow_mut(|notes| {
        if let Notes::Noting { noted, .. } | Notes::Giving { noted, .. } = notes
            && !noted.held.iter().any(|held| held.id() == tensor.id())
        {
            noted.held.push(tensor.clone());
        }
    });
}

fn bytes_of<T: WithDType>(numbers: &[T]) -> Result<Vec<u8>> {
    Ok(match T::to_cpu_storage(numbers) {
        CpuStorage::U8(numbers) => numbers,
        CpuStorage::U32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        CpuStorage::I64(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        CpuStorage::F32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        _ => bail!("numbers of {:?} are not noted", T::DTYPE),
    })
}

/// One thread captures at a time, and nobody may wait for a whole card meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

/// As long as it is there no other thread captures, or waits for all that is queued on a card.
pub(crate) struct Alone {
    /// Nothing where this thread has one already.
    guard: Option<MutexGuard<'static, ()>>,
}

impl Alone {
    pub(crate) fn begin() -> Self {
        if IS_ALONE.replace(true) {
            return Self { guard: None };
        }
        Self { guard: Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner)) }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if self.guard.is_some() {
            IS_ALONE.set(false);
        }
    }
}
