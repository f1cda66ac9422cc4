//! Every variant of every shader: valid WGSL for naga and for tint, translatable for every backend, within the limits
//! that WebGPU guarantees, and laid out as its kernel says. What a shader declares is read by naga, never retyped here.

use naga::back::{hlsl, msl, spv};
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, ImageClass, ImageDimension, Module, ScalarKind, ShaderStage, StorageAccess, StorageFormat, TypeInner,
};
use secateur::format::{Layout, WeightFormat};
use secateur::gpu::{Access, Kernel, ShaderSource, Substitution, Tier, element_words, resolve};
use secateur::kernels::registry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What WebGPU guarantees of every device.
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;
const MAX_STORAGE_BUFFERS: usize = 8;
/// The group and binding of a kernel's parameters.
const PARAMS: (u32, u32) = (1, 0);

/// A kernel in one variant, with its text.
struct Variant {
    kernel: &'static Kernel,
    substitution: Substitution,
    tier: Tier,
    text: String,
}

impl Variant {
    fn name(&self) -> String {
        let formats = self.substitution.weights.iter().map(|&decoder| {
            let format = WeightFormat::ALL.into_iter().find(|format| {
                [Layout::Rows, Layout::Columns].into_iter().any(|layout| format.decoder(layout) == decoder)
            });
            format.map_or("a decoder of no format", WeightFormat::name)
        });
        let formats: Vec<&str> = formats.collect();
        format!("{} {formats:?} {:?}", self.kernel.source.name, self.substitution.numbers)
    }

    /// Whether the shader runs on matrix units, which only native devices have: no DirectX, no browser, and so not tint.
    fn on_matrix_units(&self) -> bool {
        self.text.contains("enable wgpu_cooperative_matrix;")
    }

    /// The parsed and validated shader.
    fn module(&self) -> (Module, ModuleInfo) {
        let module = naga::front::wgsl::parse_str(&self.text)
            .unwrap_or_else(|error| panic!("{}: {}", self.name(), error.emit_to_string(&self.text)));
        // Nothing that a browser has to be asked for: halves packed in words are in every WebGPU, though not in WebGL.
        let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        if self.on_matrix_units() {
            // What `gpu` asks a device with matrix units for.
            capabilities |= Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP;
        }
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {}", self.name(), error.emit_to_string(&self.text)));
        (module, info)
    }
}

/// Every variant of both tiers, each text once.
fn variants() -> Vec<Variant> {
    let mut texts = BTreeSet::new();
    let mut variants = Vec::new();
    for tier in [Tier::Gpu, Tier::Software] {
        for (kernel, substitutions) in registry(tier) {
            assert!(!substitutions.is_empty(), "{} has no variant", kernel.source.name);
            for substitution in substitutions {
                let text = resolve(kernel.source, &substitution, tier).expect("shaders resolve");
                if texts.insert(text.clone()) {
                    variants.push(Variant { kernel, substitution, tier, text });
                }
            }
        }
    }
    variants
}

fn shaders_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")
}

#[test]
fn only_the_kernels_meant_for_them_need_matrix_units() {
    let names: BTreeSet<&str> = variants()
        .iter()
        .filter(|variant| variant.on_matrix_units())
        .map(|variant| variant.kernel.source.name)
        .collect();
    let expected = ["fc1_matrix", "gate_up_matrix", "matmul_columns_matrix", "matmul_rows_matrix", "matrix_chain"];
    assert_eq!(names, BTreeSet::from(expected));
}

/// Names of the WGSL files in a folder, and their contents.
fn wgsl_files(folder: &Path) -> BTreeMap<String, String> {
    let entries =
        std::fs::read_dir(folder).expect("the folder of shaders").map(|entry| entry.expect("an entry").path());
    let shaders = entries.filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"));
    let named = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("a shader's text"))
    };
    shaders.map(named).collect()
}

#[test]
fn every_variant_translates_for_every_backend() {
    for variant in variants() {
        let (module, info) = variant.module();
        let fail = |backend: &str, error: &dyn std::error::Error| panic!("{} in {backend}: {error}", variant.name());
        let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
        if let Err(error) = spv::write_vec(&module, &info, &spv::Options::default(), Some(&entry)) {
            fail("SPIR-V", &error);
        }
        // Metal has matrices from 2.3 on.
        let lang_version = if variant.on_matrix_units() { (2, 3) } else { (2, 0) };
        let options = msl::Options { lang_version, ..msl::Options::default() };
        match msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()) {
            Err(error) => fail("MSL", &error),
            Ok((_, translation)) => {
                assert!(translation.entry_point_names.iter().all(Result::is_ok), "{}", variant.name())
            }
        }
        if variant.on_matrix_units() {
            continue;
        }
        let (options, pipeline, mut text) = (hlsl::Options::default(), hlsl::PipelineOptions::default(), String::new());
        match hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None) {
            Err(error) => fail("HLSL", &error),
            Ok(reflection) => assert!(reflection.entry_point_names.iter().all(Result::is_ok), "{}", variant.name()),
        }
    }
}

#[test]
fn tint_accepts_every_variant() {
    let folder = tempfile::tempdir().expect("a folder");
    // Matrices are an extension of naga's that tint does not know.
    for (index, variant) in variants().iter().filter(|variant| !variant.on_matrix_units()).enumerate() {
        let path = folder.path().join(format!("{index}.wgsl"));
        std::fs::write(&path, &variant.text).expect("a file");
        // Writing WGSL again needs all of tint's validation, and is a format that every build of it has.
        let output = match Command::new("tint").args(["--format", "wgsl"]).arg(&path).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("tint is not installed: what browsers built on Dawn say of the shaders is not checked");
                return;
            }
            output => output.expect("tint runs"),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{said}", variant.name());
    }
}

#[test]
fn kernels_say_what_their_shaders_declare() {
    for variant in variants() {
        let (module, _) = variant.module();
        let name = variant.name();
        let mut storage = BTreeMap::new();
        let mut params = None;
        let mut images = 0;
        for (_, global) in module.global_variables.iter() {
            let place = global.binding.map(|binding| (binding.group, binding.binding));
            match (global.space, place) {
                (AddressSpace::Storage { access }, Some((0, binding))) => {
                    let write = access.contains(StorageAccess::STORE);
                    storage.insert(binding as usize, if write { Access::Write } else { Access::Read });
                }
                (AddressSpace::Handle, Some((0, binding))) => {
                    let TypeInner::Image { dim, class, .. } = module.types[global.ty].inner else {
                        panic!("{name}: binding {binding} is neither a buffer nor a texture")
                    };
                    let looked_up = ImageClass::Sampled { kind: ScalarKind::Uint, multi: false };
                    let image = |access| ImageClass::Storage { format: StorageFormat::Rgba32Uint, access };
                    let (fetched, stored) = (image(StorageAccess::LOAD), image(StorageAccess::STORE));
                    let is_stored = class == stored;
                    assert!(is_stored || class == fetched || class == looked_up, "{name}: {class:?} at {binding}");
                    images += usize::from(class != looked_up);
                    assert_eq!(dim, ImageDimension::D2, "{name}: texture at {binding}");
                    assert_eq!(variant.tier, Tier::Software, "{name}: hardware has storage alone");
                    storage.insert(binding as usize, if is_stored { Access::Store } else { Access::Fetch });
                }
                (AddressSpace::Uniform, Some(PARAMS)) => params = Some(global.ty),
                (AddressSpace::WorkGroup | AddressSpace::Private, None) => {}
                (space, place) => panic!("{name}: a global in {space:?} at {place:?}"),
            }
        }
        for (binding, access) in variant.kernel.bindings.iter().enumerate() {
            match storage.remove(&binding) {
                Some(found) => {
                    let is_read = variant.tier == Tier::Gpu && *access == Access::Fetch;
                    let expected = if is_read { Access::Read } else { *access };
                    assert_eq!(found, expected, "{name}: access to binding {binding}");
                }
                None if *access == Access::Store => assert!(!variant.substitution.stores(), "{name} stores nothing"),
                None => assert!(scaleless(&variant).contains(&binding), "{name} has no binding {binding}"),
            }
        }
        let granted = wgpu::Limits::default().max_storage_textures_per_shader_stage as usize;
        assert!(images <= granted, "{name} binds {images} storage textures; every WebGPU device has {granted}");
        assert!(storage.is_empty(), "{name} binds more than its kernel says: {storage:?}");

        let params = params.unwrap_or_else(|| panic!("{name} has no parameters"));
        let TypeInner::Struct { members, .. } = &module.types[params].inner else {
            panic!("{name}: the parameters are no struct")
        };
        let found: Vec<(&str, u32)> =
            members.iter().map(|member| (member.name.as_deref().unwrap_or(""), member.offset)).collect();
        let expected: Vec<(&str, u32)> = variant.kernel.params.iter().copied().zip((0..).step_by(4)).collect();
        assert_eq!(found, expected, "{name}: names and offsets of parameters");
        for member in members {
            let size = module.types[member.ty].inner.size(module.to_ctx());
            assert_eq!(size, 4, "{name}: size of {:?}", member.name);
        }
    }
}

/// Bindings that a variant's formats leave free: the scales of floats.
fn scaleless(variant: &Variant) -> Vec<usize> {
    let directives = variant.kernel.source.text.lines().filter_map(|line| line.strip_prefix("#weights "));
    let quants = directives.map(|rest| rest.split(' ').next_back().and_then(|binding| binding.parse::<usize>().ok()));
    let weights = quants.map(|binding| binding.expect("a binding")).zip(&variant.substitution.weights);
    weights.filter(|(_, decoder)| !decoder.contains("@S")).map(|(binding, _)| binding + 1).collect()
}

#[test]
fn every_variant_fits_any_webgpu_device() {
    for variant in variants() {
        let (module, _) = variant.module();
        let name = variant.name();
        let [entry] = &module.entry_points[..] else { panic!("{name} has {} entry points", module.entry_points.len()) };
        assert_eq!((entry.name.as_str(), entry.stage), ("main", ShaderStage::Compute), "{name}");
        let invocations: u32 = entry.workgroup_size.iter().product();
        assert!(invocations <= MAX_INVOCATIONS, "{name}: a workgroup of {invocations}");

        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).expect("a layout");
        let shared = module.global_variables.iter().filter(|(_, global)| global.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, global)| layouter[global.ty].size.next_multiple_of(16)).sum();
        assert!(bytes <= MAX_WORKGROUP_BYTES, "{name}: {bytes} bytes of workgroup memory");

        let buffers = variant.kernel.bindings.len();
        assert!(buffers <= MAX_STORAGE_BUFFERS, "{name}: {buffers} storage buffers");
    }
}

#[test]
fn the_registry_and_the_folder_hold_the_same_shaders() {
    let files = wgsl_files(&shaders_folder());
    let mut all = BTreeMap::new();
    for tier in [Tier::Gpu, Tier::Software] {
        let kernels: Vec<ShaderSource> = registry(tier).iter().map(|(kernel, _)| kernel.source).collect();
        let registered: BTreeMap<String, String> =
            kernels.iter().map(|source| (source.name.to_string(), source.text.to_string())).collect();
        assert_eq!(registered.len(), kernels.len(), "a kernel is registered twice");
        all.extend(registered);
    }
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&all), names(&files), "registered kernels, and files under shaders/");
    assert!(all == files, "a kernel has the text of another file");
}

#[test]
fn every_common_piece_is_used() {
    let kernels = registry(Tier::Gpu);
    let layouts = [Layout::Rows, Layout::Columns].into_iter();
    let decoders = layouts.flat_map(|layout| WeightFormat::ALL.map(|format| format.decoder(layout)));
    let pieces = wgsl_files(&shaders_folder().join("common"));
    let texts = kernels.iter().map(|(kernel, _)| kernel.source.text).chain(decoders);
    let imports: BTreeSet<String> = (texts.chain(pieces.values().map(String::as_str)))
        .flat_map(|text| text.lines().filter_map(|line| line.strip_prefix("#import ")))
        .map(str::to_string)
        .collect();
    for (name, text) in &pieces {
        let decodes = WeightFormat::ALL
            .iter()
            .any(|format| [Layout::Rows, Layout::Columns].into_iter().any(|layout| format.decoder(layout) == text));
        assert!(decodes || imports.contains(name), "nothing uses shaders/common/{name}.wgsl");
    }
}

#[test]
fn directives_without_a_meaning_are_named() {
    let told = |text: &'static str| {
        let source = ShaderSource { name: "made_up", text };
        resolve(source, &Substitution::numbers(&[("LANES", 8)]), Tier::Gpu).expect_err(text)
    };
    assert_eq!(told("#import nowhere"), "made_up: no shaders/common/nowhere.wgsl");
    assert_eq!(told("#weights w 1"), "made_up: `#weights w 1` without a format");
    assert_eq!(told("#weights w one"), "made_up: `#weights w one`");
    assert_eq!(told("#repeat i MISSING"), "made_up: `#repeat i MISSING` without a number");
    assert_eq!(told("#repeat i LANES"), "made_up: a `#repeat` without its `#end`");
    assert_eq!(told("#end"), "made_up: `#end` without a `#repeat`");
    assert_eq!(told("const L = ${LANES}u * ${MISSING}u;"), "made_up: nothing replaces `${MISSING}u;`");
}

#[test]
fn repetitions_are_written_out() {
    let text = "#repeat i ROWS\n#repeat j COLUMNS\nlet s_${i}_${j} = ${i}u;\n#end\n#end\nlast";
    let numbers = Substitution::numbers(&[("ROWS", 2), ("COLUMNS", 1)]);
    let resolved = resolve(ShaderSource { name: "made_up", text }, &numbers, Tier::Gpu).expect("a shader");
    assert_eq!(resolved, "let s_0_0 = 0u;\nlet s_1_0 = 1u;\nlast\n");
}

/// What is asked for early lies in the plane, and is a row's own.
#[test]
fn decoders_know_how_long_their_rows_are() {
    for format in WeightFormat::ALL {
        let decoder = format.decoder(Layout::Rows);
        let [quants, _] = format.plane_bytes(Layout::Rows, 1, 256);
        let elements = quants / 4 / u64::from(element_words(decoder)[0]);
        let said = format!("const W__PER_256 = {elements}u;");
        assert!(decoder.contains(&said), "{}: the decoder does not say `{said}`", format.name());
    }
}
