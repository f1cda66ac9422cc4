//! Models to open: the catalogue, files, folders.

use super::sidebar::{loading, short};
use super::state::{Intent, Model, State};
use super::theme::{self, SPACE};
use super::view::View;
use super::{Act, PAGE, words};
use eframe::egui::{self, Frame, Margin, RichText, TextEdit, Ui};

/// Draws the status of the model, and all ways to another one.
pub fn models(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    match &state.model {
        Model::None => {}
        Model::Loading { name, stage, share } => {
            ui.label(format!("{}: {stage}", short(name)));
            loading(ui, *share, acts);
            ui.add_space(SPACE);
        }
        Model::Ready(info) => {
            ui.label(RichText::new(short(&info.name)).strong());
            theme::aside(ui, info.path.display().to_string());
            let (memory, device) = (words::bytes(info.memory), &info.device);
            theme::aside(ui, format!("{}, {memory} on {device}, loaded in {:.1} s", info.format, info.seconds));
            theme::aside(ui, match &info.calibration {
                Some(calibration) => format!("Calibrated on {calibration}"),
                None if PAGE => "Not calibrated: what is pruned follows from the conversation alone.".into(),
                None => "Not calibrated: what is pruned follows from the conversation alone. `secateur calibrate` measures a text.".into(),
            });
            ui.add_space(SPACE);
        }
        Model::Failed { name, error } => {
            theme::alert(ui, true, |ui| {
                ui.label(RichText::new(format!("{} could not be loaded", short(name))).strong());
                ui.add(egui::Label::new(error).wrap());
                if ui.button("Try again").clicked() {
                    acts.push(Act::State(Intent::Load(name.clone())));
                }
            });
            ui.add_space(SPACE);
        }
    }
    for item in &state.catalogue {
        let card = Frame::new().fill(ui.visuals().faint_bg_color).stroke(ui.visuals().window_stroke);
        card.corner_radius(8.0).inner_margin(Margin::symmetric(12, 10)).show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.horizontal(|ui| {
                ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.y = 2.0;
                    ui.label(RichText::new(&item.title).strong());
                    let (size, count) = (words::bytes(item.bytes), words::parameters(item.parameters));
                    theme::aside(
                        ui,
                        match item.parameters {
                            0 => size,
                            _ => format!("{count} parameters, {size}, {}", item.licence),
                        },
                    );
                });
                theme::from_the_right(ui, |ui| {
                    let name = if item.pulled { "Open" } else { "Download" };
                    let idle = !matches!(state.model, Model::Loading { .. });
                    let open = state.ready().is_some_and(|info| info.name == item.name);
                    let button = theme::primary(ui, idle && !open, if open { "Opened" } else { name });
                    if button.accessible_name(format!("{name} {}", item.title)).clicked() {
                        acts.push(Act::State(Intent::Load(item.name.clone())));
                    }
                    if item.pulled && idle {
                        delete(ui, &item.name, &item.title, view, acts);
                    }
                });
            });
        });
    }
    ui.add_space(SPACE);
    ui.horizontal(|ui| {
        if ui.button("Open file…").on_hover_text("A GGUF file (Ctrl+O)").clicked() {
            acts.push(Act::PickFile);
        }
        if PAGE {
            return;
        }
        if ui.button("Open folder…").on_hover_text("A model folder of Hugging Face").clicked() {
            acts.push(Act::PickFolder);
        }
        let field = TextEdit::singleline(&mut view.path).hint_text("or its path").desired_width(ui.available_width());
        let field = ui.add(field.margin(Margin::symmetric(8, 5))).accessible_name("Path of a model");
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        if entered && !view.path.trim().is_empty() {
            acts.push(Act::State(Intent::Load(std::mem::take(&mut view.path).trim().to_string())));
        }
    });
    theme::aside(ui, if PAGE { "or drop a GGUF file here" } else { "or drop a GGUF file or a model folder here" });
}

/// A button that deletes a model's files when it is clicked twice.
fn delete(ui: &mut Ui, name: &str, title: &str, view: &mut View, acts: &mut Vec<Act>) {
    let sure = view.deleting.as_deref() == Some(name);
    let button = theme::quiet(ui, if sure { "Delete its file?" } else { "Delete" });
    let button = button.on_hover_text("Frees its space on the disk");
    let name_of_button = if sure { format!("Delete the file of {title}") } else { format!("Delete {title}") };
    if button.clone().accessible_name(name_of_button).clicked() {
        if sure {
            acts.push(Act::State(Intent::DeleteModel(name.to_string())));
        }
        view.deleting = (!sure).then(|| name.to_string());
    } else if button.clicked_elsewhere() && sure {
        view.deleting = None;
    }
}
