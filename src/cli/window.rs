//! `secateur` without a command: the window.

use anyhow::Result;
use clap::Args;
use eframe::egui::ViewportBuilder;
use eframe::egui_wgpu::{SurfaceConfig, WgpuSetup};
use secateur::Error;
use secateur::app::state::Preferences;
use secateur::app::{App, Link, Setup, icon, system_clock};
use secateur::chat::Store;
use secateur::session::{Handle, catalogue};
use std::path::PathBuf;

/// The file of conversations in its folder.
const FILE: &str = "chats.sqlite";
/// Size of the first window, in points.
const SIZE: [f32; 2] = [1280.0, 800.0];

/// Names of the options of [`WindowArgs`].
pub const OPTIONS: [&str; 4] = ["model", "device", "context", "data"];

/// Arguments of the window.
#[derive(Debug, Args)]
#[command(next_help_heading = "Window")]
pub struct WindowArgs {
    /// A GGUF file, a Hugging Face folder, or a name of the catalogue [default: the last one]
    #[arg(long, short, value_name = "MODEL", env = "SECATEUR_MODEL")]
    model: Option<String>,
    /// Part of a GPU's name, or its number in `secateur devices` [default: the last one]
    #[arg(long, value_name = "NAME", env = "SECATEUR_DEVICE")]
    device: Option<String>,
    /// Slots for a whole conversation, in tokens [default: 4096, or what the model was trained on]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// The folder of the conversations [default: the system's folder for data]
    #[arg(long, value_name = "DIR", env = "SECATEUR_DATA")]
    data: Option<PathBuf>,
}

/// Opens the window, and ends with it.
pub fn run(args: WindowArgs) -> Result<()> {
    check_display()?;
    let folder = args.data.map_or_else(data_dir, Ok)?;
    let path = folder.join(FILE);
    let store = Store::open(&path);
    let size = store.as_ref().ok().and_then(|store| Preferences::read(store).window).unwrap_or(SIZE);
    let setup = Setup {
        store,
        path,
        model: args.model.map(whole),
        device: args.device,
        context: args.context.map(|context| context as usize),
        catalogue: catalogue()?,
        link: Link::default(),
        clock: system_clock,
    };
    let viewport = ViewportBuilder::default().with_title("Secateur").with_app_id("secateur").with_icon(icon());
    let mut options = eframe::NativeOptions {
        viewport: viewport.with_inner_size(size).with_min_inner_size([480.0, 360.0]),
        ..eframe::NativeOptions::default()
    };
    // The newest answer on the screen matters more than frames in a row.
    options.wgpu_options.surface = SurfaceConfig::LOW_LATENCY;
    // burn compiles OpenGL in as well, which nothing here is tested on.
    if let WgpuSetup::CreateNew(setup) = &mut options.wgpu_options.wgpu_setup {
        setup.instance_descriptor.backends.remove(eframe::wgpu::Backends::GL);
    }
    let begin = move |creation: &eframe::CreationContext<'_>| {
        let context = creation.egui_ctx.clone();
        let engine = Handle::start(move || context.request_repaint())?;
        Ok(Box::new(App::new(&creation.egui_ctx, setup, Box::new(engine))) as Box<dyn eframe::App>)
    };
    eframe::run_native("secateur", options, Box::new(begin)).map_err(|error| {
        let what = format!("the window could not be opened ({error}); `secateur chat` needs none");
        Error::Setting(what).into()
    })
}

/// Refuses where no window can be opened: toolkits say it less clearly.
fn check_display() -> Result<()> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if cfg!(target_os = "linux") && !set("DISPLAY") && !set("WAYLAND_DISPLAY") {
        let what = "there is no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set): \
                    use `secateur chat` for a chat in the terminal";
        return Err(Error::Setting(what.into()).into());
    }
    Ok(())
}

/// A path as it is known from every folder: it is remembered for the next start. A name stays one.
fn whole(model: String) -> String {
    let path = std::path::absolute(&model).ok().filter(|path| path.exists());
    path.map_or(model, |path| path.display().to_string())
}

/// The system's folder for what programs keep.
fn data_dir() -> Result<PathBuf> {
    use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
    let strategy = choose_native_strategy().map_err(|error| {
        Error::Setting(format!("no folder for conversations: {error}; name one with --data, or set SECATEUR_DATA"))
    })?;
    Ok(strategy.data_dir().join("secateur"))
}
