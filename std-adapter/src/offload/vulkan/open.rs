//! From a list of devices to one that is open, with its kernels.

use super::{
    super::{
        devices::{Absent, Device},
        engine::Fault,
    },
    BINDINGS, NAMES,
};
use std::sync::{Arc, Mutex, PoisonError};

const REMEDY: &str = "install your GPU's driver, or Debian's mesa-vulkan-drivers for one in software";

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN;
    wgpu::Instance::new(descriptor)
}

fn adapters() -> Result<Vec<wgpu::Adapter>, Absent> {
    let instance = instance();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    if !adapters.is_empty() {
        return Ok(adapters);
    }
    // Only a refused request says why there is none.
    let refused = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
    let reason = refused.err().map(|error| error.to_string()).unwrap_or_default();
    Err(if reason.contains("could not be loaded") {
        let libraries = "the Vulkan loader (libvulkan) or a driver that it can load".to_owned();
        Absent::NoLibrary { libraries, remedy: REMEDY }
    } else {
        Absent::NoDevice { what: "the Vulkan drivers list none".to_owned(), remedy: REMEDY }
    })
}

/// The devices, in their order; Vulkan does not tell their memory.
///
/// # Errors
/// [`Absent`], where there is none.
pub fn devices() -> Result<Vec<Device>, Absent> {
    let device = |(number, adapter): (usize, wgpu::Adapter)| {
        let info = adapter.get_info();
        let name = format!("{} ({:?})", info.name, info.device_type);
        Device { number, name, driver: format!("{} {}", info.driver, info.driver_info), memory: None }
    };
    Ok(adapters()?.into_iter().enumerate().map(device).collect())
}

/// A device that is open.
pub(super) struct Opened {
    pub(super) adapter: wgpu::Adapter,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// The first thing that went wrong on it.
    pub(super) trouble: Arc<Mutex<Option<Fault>>>,
}

/// Opens the device of this number.
pub(super) fn open(ordinal: usize) -> Result<Opened, Fault> {
    let missing = |what: String| Fault::Missing(format!("Vulkan device {ordinal}: {what}"));
    let adapters = adapters().map_err(|absent| missing(absent.to_string()))?;
    let count = adapters.len();
    let adapter = adapters.into_iter().nth(ordinal).ok_or_else(|| missing(format!("there are {count}")))?;
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    let opened = pollster::block_on(adapter.request_device(&descriptor));
    let (device, queue) = opened.map_err(|error| Fault::Lost(error.to_string()))?;
    let trouble = Arc::new(Mutex::new(None));
    let note = Arc::clone(&trouble);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let fault = match error {
            wgpu::Error::OutOfMemory { .. } => Fault::OutOfMemory(0),
            other => Fault::Lost(other.to_string()),
        };
        note.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }));
    Ok(Opened { adapter, device, queue, trouble })
}

/// What every kernel is bound to: parameters, what is written, five that are read, and a second that is written.
pub(super) fn bindings(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let entry = |binding: u32| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match binding {
                0 => wgpu::BufferBindingType::Uniform,
                _ => wgpu::BufferBindingType::Storage { read_only: (2..7).contains(&binding) },
            },
            has_dynamic_offset: binding == 0,
            min_binding_size: None,
        },
        count: None,
    };
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &std::array::from_fn::<_, BINDINGS, _>(|binding| entry(binding as u32)),
    })
}

/// The kernels, in the order of their names.
pub(super) fn pipelines(device: &wgpu::Device, layout: &wgpu::BindGroupLayout) -> Vec<wgpu::ComputePipeline> {
    let shader = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(include_str!("../kernels.wgsl").into()),
    });
    let whole = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    let pipeline = |name: &&str| {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&whole),
            module: &shader,
            entry_point: Some(name),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
    };
    NAMES.iter().map(pipeline).collect()
}
