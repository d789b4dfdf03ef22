//! Launches on a card.
#![allow(unsafe_code)] // memory that a kernel writes as a whole, the launch itself, and what NVRTC knows

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum as FunctionAttribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::sys::{nvrtcGetNumSupportedArchs, nvrtcGetSupportedArchs};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, CudaStorage, DType, Error, Result, Shape, Storage, bail};
use half::bf16;

use super::architecture::{multiplies_in, newest};
use super::launch::{Argument, Launch, Made, Output};
use crate::precision::Precision;

/// A file of kernels as NVRTC compiles it: one text, since there are no files to include.
struct Module {
    /// Its name on the device.
    name: String,
    source: &'static str,
    /// Attention is compiled for one width of heads at a time, when it is first asked for.
    head_width: Option<&'static str>,
}

macro_rules! joined {
    ($file:literal) => {
        concat!("#define SKN_JOINED\n", include_str!("kernels/common.cuh"), include_str!($file))
    };
}

impl Module {
    /// The one that has a kernel.
    fn of(kernel: &'static str) -> Self {
        let (file, source) = match kernel {
            "rotary" => ("rotary", joined!("kernels/rotary.cu")),
            _ if kernel.starts_with("attention") => ("attention", joined!("kernels/attention.cu")),
            "pool_rows" | "add_statistics" | "add_moments" | "add_shares" | "count_above" | "count_bins"
            | "pack_above" | "pick_columns" | "row_norms" => ("pool", joined!("kernels/pool.cu")),
            _ if kernel.contains("norm") => ("norm", joined!("kernels/norm.cu")),
            _ => ("elementwise", joined!("kernels/elementwise.cu")),
        };
        // The kernel of row products is there for any width.
        let of_kernel = |width: &&str| kernel.strip_suffix(*width).is_some_and(|rest| rest.ends_with('_'));
        let width = ["32", "64", "128", "256"].into_iter().find(of_kernel).unwrap_or("64");
        let head_width = (file == "attention").then_some(width);
        Self { name: format!("skn_{file}{}", head_width.unwrap_or_default()), source, head_width }
    }
}

/// A module's name, and what it is compiled for.
type Compiled = (String, (i32, i32));

/// What was compiled, as PTX.
static COMPILED: Mutex<BTreeMap<Compiled, Arc<str>>> = Mutex::new(BTreeMap::new());

/// Shared memory that a block gets without asking for more.
const SHARED_WITHOUT_ASKING: u32 = 48 * 1024;

/// Runs a kernel, and gives what it writes. It returns before the card has done so.
pub(super) fn launch(device: &CudaDevice, launch: Launch) -> Result<Vec<Option<Made>>> {
    let module = Module::of(launch.kernel);
    // A thread that has had nothing to do with the card may ask for no kernel before.
    device.cuda_stream().context().bind_to_thread().w()?;
    let function =
        device.get_or_load_custom_func(launch.kernel, &module.name, &compiled(device, &module)?)?;
    if launch.shared > SHARED_WITHOUT_ASKING {
        let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, launch.shared as i32).w()?;
    }
    let outputs = launch.outputs.into_iter().map(|output| match output {
        Output::Nothing => Ok(None),
        Output::New(dtype, shape) => Ok(Some(memory(device, dtype, shape)?)),
        Output::GoesOn(made) => Ok(Some(made)),
    });
    let mut outputs = outputs.collect::<Result<Vec<_>>>()?;
    let held = launch.arguments.iter().map(|argument| match argument {
        Argument::Tensor(tensor) => Some(tensor.storage_and_layout()),
        _ => None,
    });
    let held: Vec<_> = held.collect();
    let mut views = Vec::with_capacity(held.len());
    for (argument, held) in launch.arguments.iter().zip(&held) {
        let (Argument::Tensor(tensor), Some((storage, layout))) = (argument, held) else {
            views.push(View::None);
            continue;
        };
        let Storage::Cuda(storage) = &**storage else {
            bail!("{}: expected all tensors on one card, found one elsewhere", launch.kernel);
        };
        expect_on(device, storage, launch.kernel)?;
        let range = layout.start_offset()..layout.start_offset() + tensor.elem_count();
        views.push(match tensor.dtype() {
            DType::U32 => View::U32(storage.as_cuda_slice::<u32>()?.slice(range)),
            _ => View::F32(storage.as_cuda_slice::<f32>()?.slice(range)),
        });
    }
    let nothing = 0u64;
    let mut builder = function.builder();
    for output in &mut outputs {
        match output {
            None => {
                builder.arg(&nothing);
            }
            Some(Made { storage: Storage::Cuda(storage), .. }) => {
                expect_on(device, storage, launch.kernel)?;
                match storage.dtype() {
                    DType::U8 => pass::<u8>(&mut builder, storage)?,
                    DType::U32 => pass::<u32>(&mut builder, storage)?,
                    DType::I64 => pass::<i64>(&mut builder, storage)?,
                    DType::BF16 => pass::<bf16>(&mut builder, storage)?,
                    _ => pass::<f32>(&mut builder, storage)?,
                }
            }
            Some(_) => bail!("{}: expected all tensors on one card, found one elsewhere", launch.kernel),
        }
    }
    for (argument, view) in launch.arguments.iter().zip(&views) {
        match (argument, view) {
            (_, View::F32(view)) => builder.arg(view),
            (_, View::U32(view)) => builder.arg(view),
            (Argument::U32(number), _) => builder.arg(number),
            (Argument::U64(number), _) => builder.arg(number),
            (Argument::F32(number), _) => builder.arg(number),
            (Argument::Nothing | Argument::Tensor(_), View::None) => builder.arg(&nothing),
        };
    }
    let [x, y, z] = launch.grid;
    let config = LaunchConfig {
        grid_dim: (x, y, z),
        block_dim: (launch.block, 1, 1),
        shared_mem_bytes: launch.shared,
    };
    // SAFETY: kernels and arguments are those that the tests run on the host, where AddressSanitizer has seen every access and
    // the player compares each argument with the kernel's own signature. Outputs are ours alone.
    unsafe { builder.launch(config) }.w()?;
    Ok(outputs)
}

/// Memory for an output.
fn memory(device: &CudaDevice, dtype: DType, shape: Shape) -> Result<Made> {
    let count = shape.elem_count();
    // SAFETY: the kernels write every place of a new output before anything reads it; the tests on the host, where places begin
    // as what is no number, or all ones, would see one that is left out.
    let storage = unsafe {
        match dtype {
            DType::U8 => CudaStorage::wrap_cuda_slice(device.alloc::<u8>(count)?, device.clone()),
            DType::U32 => CudaStorage::wrap_cuda_slice(device.alloc::<u32>(count)?, device.clone()),
            DType::I64 => CudaStorage::wrap_cuda_slice(device.alloc::<i64>(count)?, device.clone()),
            DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(count)?, device.clone()),
            _ => bail!("kernels write no {dtype:?}"),
        }
    };
    Ok(Made { storage: Storage::Cuda(storage), shape })
}

/// Passes an output to a kernel.
fn pass<'a, T: CudaDType + 'a>(builder: &mut LaunchArgs<'a>, storage: &'a mut CudaStorage) -> Result<()> {
    PushKernelArg::<&mut CudaSlice<T>>::arg(builder, storage.as_cuda_slice_mut::<T>()?);
    Ok(())
}

/// A storage of no numbers: a card gives no memory of no bytes, so there is one.
pub(super) fn nothing(device: &CudaDevice) -> Result<Storage> {
    Ok(Storage::Cuda(CudaStorage::wrap_cuda_slice(device.alloc_zeros::<f32>(1)?, device.clone())))
}

/// A card's name and compute capability.
pub(crate) fn card(device: &CudaDevice) -> Result<String> {
    let stream = device.cuda_stream();
    let (major, minor) = stream.context().compute_capability().w()?;
    Ok(format!("{}, compute capability {major}.{minor}", stream.context().name().w()?))
}

/// A card that is too old for a precision, by its name.
pub(crate) fn too_old(device: &CudaDevice, precision: Precision) -> Result<Option<String>> {
    match multiplies_in(device.cuda_stream().context().compute_capability().w()?, precision) {
        true => Ok(None),
        false => card(device).map(Some),
    }
}

/// Refuses what lies on another card.
pub(super) fn expect_on(device: &CudaDevice, storage: &CudaStorage, what: &str) -> Result<()> {
    let (expected, found) = (device.location(), storage.device().location());
    if expected != found {
        bail!("{what}: expected all tensors on {expected:?}, found one on {found:?}");
    }
    Ok(())
}

/// Numbers to read.
enum View<'a> {
    None,
    F32(CudaView<'a, f32>),
    U32(CudaView<'a, u32>),
}

/// A module for a card. It is compiled once.
fn compiled(device: &CudaDevice, module: &Module) -> Result<Arc<str>> {
    let capability = device.cuda_stream().context().compute_capability().w()?;
    let key = (module.name.clone(), capability);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ptx) = compiled.get(&key) {
        return Ok(Arc::clone(ptx));
    }
    let ptx: Arc<str> = compile(module, capability)?.into();
    compiled.insert(key, Arc::clone(&ptx));
    Ok(ptx)
}

/// The architectures that NVRTC compiles for; none if it doesn't say.
fn known_architectures() -> Vec<i32> {
    let mut count = 0;
    // SAFETY: it writes a number.
    let told = unsafe { nvrtcGetNumSupportedArchs(&raw mut count) }.result();
    let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
    if told.is_err() || known.is_empty() {
        return Vec::new();
    }
    // SAFETY: it writes as many numbers as it has just told.
    match unsafe { nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result() {
        Ok(()) => known,
        Err(_) => Vec::new(),
    }
}

/// A module as PTX, for the newest architecture up to the card's own that NVRTC knows.
fn compile(module: &Module, capability: (i32, i32)) -> Result<String> {
    let architecture = newest(capability, &known_architectures());
    let mut options = vec![format!("--gpu-architecture=compute_{architecture}"), "--std=c++17".to_string()];
    options.extend(module.head_width.map(|width| format!("--define-macro=SKN_HEAD_WIDTH={width}")));
    // Where kernels add a product without rounding it they say so; everything else rounds as on a processor.
    let options = CompileOptions { fmad: Some(false), options, ..CompileOptions::default() };
    match compile_ptx_with_opts(module.source, options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(error) => Err(Error::Msg(format!("{} can't be compiled by NVRTC: {error:?}", module.name))),
    }
}
