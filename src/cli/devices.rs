//! `secateur devices`: the GPUs that a run could use.

use super::output::{JsonOption, bytes, print};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::gpu::{AdapterInfo, adapters};
use serde::Serialize;

/// Arguments of `secateur devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    #[command(flatten)]
    json: JsonOption,
}

#[derive(Serialize)]
struct Devices {
    devices: Vec<AdapterInfo>,
    version: &'static str,
}

/// Lists the adapters, the one used by default first.
pub fn run(args: &DevicesArgs) -> Result<()> {
    let json = args.json.open()?;
    let devices = adapters();
    if devices.is_empty() {
        return Err(Error::NoAdapter { detail: String::new() }.into());
    }
    if !json.takes_stdout() {
        for device in &devices {
            print(&describe(device))?;
        }
    }
    json.write(&Devices { devices, version: env!("CARGO_PKG_VERSION") })
}

fn describe(device: &AdapterInfo) -> String {
    let AdapterInfo { index, name, backend, kind, driver, .. } = device;
    let yes = |has: bool| if has { "yes" } else { "no" };
    format!(
        "{index}: {name} ({kind}, {backend}, {driver})\n   \
         largest binding {}, largest buffer {}, workgroup memory {}, 16-bit floats {}, subgroups {}, matrix units {}\n",
        bytes(device.max_binding_bytes),
        bytes(device.max_buffer_bytes),
        bytes(device.max_workgroup_bytes.into()),
        yes(device.shader_f16),
        yes(device.subgroups),
        device.matrix_units.map_or("none".into(), |units| units.to_string())
    )
}
