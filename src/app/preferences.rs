//! What holds for the whole program: look, device, context, where everything lies.

use super::Act;
use super::state::{Intent, State, Theme};
use super::theme::{self, SPACE};
use super::view::View;
use eframe::egui::{self, ComboBox, DragValue, Grid, Slider, Ui};
use std::path::Path;

/// Draws the preferences; a change goes out at once.
pub fn preferences(ui: &mut Ui, state: &State, view: &mut View, data: Option<&Path>, acts: &mut Vec<Act>) {
    if !std::mem::replace(&mut view.asked_devices, true) {
        acts.push(Act::State(Intent::Devices));
    }
    let mut wanted = state.preferences.clone();
    Grid::new("preferences").num_columns(2).spacing([16.0, 10.0]).show(ui, |ui| {
        ui.label("Theme");
        ui.horizontal(|ui| {
            for (theme, name) in [(Theme::System, "System"), (Theme::Light, "Light"), (Theme::Dark, "Dark")] {
                ui.selectable_value(&mut wanted.theme, theme, name);
            }
        });
        ui.end_row();

        let label = ui.label("Zoom");
        let mut percent = (wanted.zoom * 100.0).round();
        let slider = Slider::new(&mut percent, 60.0..=250.0).step_by(10.0).suffix(" %").update_while_editing(false);
        // While it is dragged, the slider would move away under the pointer.
        let slider = ui.add(slider).labelled_by(label.id);
        if slider.drag_stopped() || slider.changed() && !slider.dragged() {
            wanted.zoom = percent / 100.0;
        }
        ui.end_row();

        ui.label("Device");
        devices(ui, state, &mut wanted.device);
        ui.end_row();

        let label = ui.label("Context size");
        ui.horizontal(|ui| {
            let context = DragValue::new(&mut wanted.context).range(64..=1_048_576).speed(16.0).suffix(" tokens");
            ui.add(context).labelled_by(label.id);
            theme::aside(ui, "as far as the model was trained");
        });
        ui.end_row();

        ui.label("Conversations");
        match data {
            Some(path) => drop(ui.horizontal(|ui| {
                ui.add(egui::Label::new(egui::RichText::new(path.display().to_string()).small()).truncate());
                if theme::quiet(ui, "Copy path").clicked() {
                    ui.copy_text(path.display().to_string());
                }
            })),
            None => drop(ui.colored_label(theme::colors(ui).warn, "not saved")),
        }
        ui.end_row();
    });
    ui.add_space(SPACE);
    let (device, context) = (&state.preferences.device, state.preferences.context);
    if let Some(name) = state.asked().filter(|asked| asked.device != *device || asked.context != context) {
        let name = name.model.clone();
        ui.horizontal(|ui| {
            theme::aside(ui, "Device and context hold from the next load on.");
            if ui.button("Load the model again").clicked() {
                acts.push(Act::State(Intent::Load(name)));
            }
        });
    }
    if wanted != state.preferences {
        acts.push(Act::State(Intent::Prefer(Box::new(wanted))));
    }
}

fn devices(ui: &mut Ui, state: &State, chosen: &mut Option<String>) {
    let devices = state.devices.as_deref().unwrap_or_default();
    let fastest = "The fastest";
    let shown = chosen.clone().unwrap_or_else(|| fastest.to_string());
    let combo = ComboBox::from_id_salt("device").selected_text(shown).width(260.0).show_ui(ui, |ui| {
        ui.selectable_value(chosen, None, fastest);
        for device in devices {
            let name = format!("{} ({})", device.name, device.kind);
            ui.selectable_value(chosen, Some(device.name.clone()), name);
        }
        if state.devices.is_none() {
            theme::aside(ui, "looking for devices…");
        }
    });
    combo.response.accessible_name("Device");
}
