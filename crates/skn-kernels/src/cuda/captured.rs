//! What is queued on a card, captured as a graph, and uploads that a graph reads.
//!
//! Memory that is asked for in a capture belongs to the graph, and all of it is let go in the capture too, so that the graph can be
//! launched again. It is the same place each time, and graphs of one stream share what lies behind it.
#![allow(unsafe_code)] // the end of a capture, graphs that another thread lets go, and numbers that are put over others

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::{graph, memcpy_htod_async, stream};
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, DevicePtr};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorageRef, CudaDevice, CudaStorage, Error, Result, Shape, Storage, Tensor, WithDType, bail,
};

use crate::noted::Alone;

/// A graph, and the stream that it was captured on: that of the thread which launches it.
pub(crate) struct Captured {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
}

// SAFETY: a graph may be used by any thread, by one at a time; nobody has a reference to it but who has it.
unsafe impl Send for Captured {}

impl Captured {
    /// Captures what `work` queues. It is not done.
    pub(crate) fn of<E: From<Error>>(
        device: &CudaDevice,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let stream = device.cuda_stream();
        if !stream.context().has_async_alloc() {
            return Err(wrong("memory pools, which this card has not").into());
        }
        // Nobody but this thread is kept from anything meanwhile, and this one from what would have to wait for the card.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).w().map_err(|error| of_card("it can't begin", &error))?;
        let begun = Begun(&stream);
        work()?;
        let ended = stream.end_capture(CUgraphInstantiate_flags(0)).w();
        // An error that another thread left may keep it from ending the capture: that is done then, whatever it was.
        match ended {
            Ok(Some(graph)) => {
                std::mem::forget(begun);
                Ok(Self { graph, stream })
            }
            Ok(None) => {
                std::mem::forget(begun);
                Err(wrong("something that is launched").into())
            }
            Err(error) => {
                drop(begun);
                Err(of_card("the card takes it for none", &error).into())
            }
        }
    }

    /// Queues what was captured.
    pub(crate) fn replay(&self) -> Result<()> {
        self.graph.launch().w().map_err(|error| of_card("a graph can't be launched", &error))
    }
}

impl Drop for Captured {
    /// It may be running, on another thread's stream.
    fn drop(&mut self) {
        let _alone = Alone::begin();
        let context = self.stream.context();
        // A card that fails tells whoever uses it next.
        context.record_err(context.bind_to_thread().and_then(|()| context.synchronize()));
    }
}

fn wrong(expected: &str) -> Error {
    Error::Msg(format!("expected {expected}"))
}

fn of_card(what: &str, error: &Error) -> Error {
    Error::Msg(format!("{what}: {error}"))
}

/// A capture that ends, whatever ends the work.
struct Begun<'a>(&'a CudaStream);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // SAFETY: the stream is there, and the graph is nobody else's.
        unsafe {
            if let Ok(left) = stream::end_capture(self.0.cu_stream())
                && !left.is_null()
            {
                self.0.context().record_err(graph::destroy(left));
            }
        }
        // What the card has refused meanwhile is the work's error, and not that of what comes next.
        let _ = self.0.context().check_err();
    }
}

/// Numbers on a card. Not by candle, which keeps all small uploads for ever while it keeps those that a capture needs.
pub(crate) fn uploaded<T: WithDType>(numbers: &[T], shape: Shape, device: &CudaDevice) -> Result<Tensor> {
    let stream = device.cuda_stream();
    let of = |storage: CudaStorage| {
        Tensor::from_storage(Storage::Cuda(storage), shape.clone(), BackpropOp::none(), false)
    };
    if numbers.len() != shape.elem_count() {
        bail!("upload: expected {} numbers for {shape:?}, found {}", shape.elem_count(), numbers.len());
    }
    Ok(of(match T::cpu_storage_ref(numbers) {
        CpuStorageRef::U8(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        CpuStorageRef::U32(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        CpuStorageRef::I64(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        CpuStorageRef::F32(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        _ => bail!("upload: expected f32, u32, i64 or u8, found {:?}", T::DTYPE),
    }))
}

/// Puts numbers over others on a card, of which there are as many.
pub(crate) fn uploaded_over(numbers: &[u32], to: &Tensor, device: &CudaDevice) -> Result<()> {
    let (storage, layout) = to.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("upload: expected place on a card, found it elsewhere");
    };
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let from = layout.start_offset();
    let place = storage.as_cuda_slice::<u32>()?.slice(from..from + numbers.len());
    let (place, _used) = place.device_ptr(&stream);
    // SAFETY: there is place for so many, and what is queued on this stream before has read what was there.
    unsafe { memcpy_htod_async(place, numbers, stream.cu_stream()) }.w()
}
