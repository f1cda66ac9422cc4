//! The colours of units. Kept is blue and dropped is orange, apart in lightness too, so that they can be told apart
//! without colour vision and in print; how high a unit scores within its layer is a shade of its colour.
//!
//! A comparison has four states. What both choices agree on is neutral there, so that only differences stand out.

use eframe::egui::{self, Color32, Rect, RichText, Sense, Ui, Vec2, pos2, vec2};

/// Shades of one state, from the lowest score of a layer to the highest.
pub(super) const SHADES: usize = 64;

/// What two choices say about a unit; without a second choice, it is only the first or the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Kept by neither.
    Neither,
    /// Kept by the choice that is compared with.
    OnlyThen,
    /// Kept by the choice that is shown.
    OnlyNow,
    /// Kept by both.
    Both,
}

/// Colours by state and shade.
#[derive(Clone)]
pub(super) struct Palette {
    states: [[Color32; SHADES]; 4],
    /// Behind the hatch of a dense block.
    pub dense: Color32,
    /// The hatch itself.
    pub hatch: Color32,
}

impl Palette {
    /// The colours of a theme; `comparing` = of two choices.
    pub fn new(dark: bool, comparing: bool) -> Palette {
        let ramps = match (dark, comparing) {
            (true, false) => [(0x5c2c08, 0x84420e); 2].into_iter().chain([(0x4f8fe0, 0xc8e6ff); 2]).collect::<Vec<_>>(),
            (false, false) => [(0xffe6c8, 0xf7c080); 2].into_iter().chain([(0x4386d6, 0x0a2c66); 2]).collect(),
            (true, true) => [0x2b2b2e, 0xe5852c, 0xb0dcff, 0x5a6068].map(|flat| (flat, flat)).to_vec(),
            (false, true) => [0xf1efeb, 0xc25e00, 0x0a3c8c, 0xaab1b9].map(|flat| (flat, flat)).to_vec(),
        };
        let shades = |state: usize| {
            let (low, high) = ramps[state];
            std::array::from_fn(|shade| rgb(low).lerp_to_gamma(rgb(high), shade as f32 / (SHADES - 1) as f32))
        };
        let (dense, hatch) = if dark { (0x333335, 0x55555a) } else { (0xe4e4e6, 0xb9b9be) };
        Palette { states: std::array::from_fn(shades), dense: rgb(dense), hatch: rgb(hatch) }
    }

    /// The colour of one unit; `shade` is below [`SHADES`].
    pub fn unit(&self, state: usize, shade: usize) -> Color32 {
        self.states[state][shade]
    }

    /// The colour of units that share a pixel: `counts` of each state, all of one mean shade.
    pub fn mixed(&self, counts: [u32; 4], shade: usize) -> Color32 {
        let all: u32 = counts.iter().sum::<u32>().max(1);
        let channel = |of: fn(Color32) -> u8| {
            let weighted = counts.iter().zip(&self.states).map(|(&count, state)| count * u32::from(of(state[shade])));
            (weighted.sum::<u32>() / all) as u8
        };
        Color32::from_rgb(channel(|color| color.r()), channel(|color| color.g()), channel(|color| color.b()))
    }
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// The colours and their meaning, in as many lines as the width needs; `comparing` = of two choices.
pub fn legend(ui: &mut Ui, comparing: bool) {
    let dark = ui.visuals().dark_mode;
    let palette = Palette::new(dark, comparing);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 10.0;
        let entries: &[(State, &str)] = match (comparing, dark) {
            (true, _) => &[
                (State::OnlyNow, "only now"),
                (State::OnlyThen, "only then"),
                (State::Both, "kept in both"),
                (State::Neither, "in neither"),
            ],
            (false, true) => &[(State::Both, "kept, brighter = higher score"), (State::Neither, "dropped")],
            (false, false) => &[(State::Both, "kept, darker = higher score"), (State::Neither, "dropped")],
        };
        for &(state, text) in entries {
            entry(ui, text, |ui, rect| {
                let step = rect.width() / 8.0;
                for strip in 0..8 {
                    let left = rect.left() + step * strip as f32;
                    let strip_rect = Rect::from_min_size(pos2(left, rect.top()), vec2(step, rect.height()));
                    let color = palette.unit(state as usize, strip * (SHADES - 1) / 7);
                    ui.painter().rect_filled(strip_rect, 0.0, color);
                }
            });
        }
        entry(ui, "dense", |ui, rect| {
            ui.painter().rect_filled(rect, 0.0, palette.dense);
            let clipped = ui.painter_at(rect);
            for line in 0..6 {
                let x = rect.left() - rect.height() + 6.0 * line as f32;
                let ends = [pos2(x, rect.bottom()), pos2(x + rect.height(), rect.top())];
                clipped.line_segment(ends, (1.2, palette.hatch));
            }
        });
    });
}

/// One swatch and its words, kept on one line.
fn entry(ui: &mut Ui, text: &str, paint: impl FnOnce(&Ui, Rect)) {
    let text = RichText::new(text).small();
    let galley = egui::WidgetText::from(text).into_galley(
        ui,
        Some(egui::TextWrapMode::Extend),
        f32::INFINITY,
        egui::TextStyle::Small,
    );
    let swatch = vec2(20.0, 10.0);
    let size = vec2(swatch.x + 5.0 + galley.size().x, galley.size().y.max(swatch.y));
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let name = galley.text().to_owned();
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, &name));
    let middle = rect.left_center() + Vec2::new(swatch.x / 2.0, 0.0);
    paint(ui, Rect::from_center_size(middle, swatch));
    let at = pos2(rect.left() + swatch.x + 5.0, rect.center().y - galley.size().y / 2.0);
    ui.painter().galley(at, galley, ui.visuals().text_color());
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMAL: [[f32; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    /// Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
    const PROTAN: [[f32; 3]; 3] =
        [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]];
    const DEUTAN: [[f32; 3]; 3] =
        [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_82, 0.042_94, 0.968_881]];
    const TRITAN: [[f32; 3]; 3] =
        [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_9]];

    fn linear(color: Color32) -> [f32; 3] {
        let linear = egui::Rgba::from(color);
        [linear.r(), linear.g(), linear.b()]
    }

    fn times(matrix: &[[f32; 3]; 3], v: [f32; 3]) -> [f32; 3] {
        matrix.map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum())
    }

    fn luminance(color: Color32) -> f32 {
        let [r, g, b] = linear(color);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(a: Color32, b: Color32) -> f32 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    /// Distance in OKLab as an eye with this deficiency sees both.
    fn distance(eye: &[[f32; 3]; 3], a: Color32, b: Color32) -> f32 {
        let lab = |color| {
            let seen = times(eye, linear(color)).map(|v| v.max(0.0));
            let lms = [
                [0.412_221_46, 0.536_332_55, 0.051_445_995],
                [0.211_903_5, 0.680_699_5, 0.107_396_96],
                [0.088_302_46, 0.281_718_85, 0.629_978_7],
            ];
            let lab = [
                [0.210_454_26, 0.793_617_8, -0.004_072_047],
                [1.977_998_5, -2.428_592_2, 0.450_593_7],
                [0.025_904_037, 0.782_771_77, -0.808_675_77],
            ];
            times(&lab, times(&lms, seen).map(f32::cbrt))
        };
        lab(a).into_iter().zip(lab(b)).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
    }

    #[test]
    fn kept_and_dropped_differ_for_every_eye_and_in_grey() {
        for dark in [true, false] {
            let palette = Palette::new(dark, false);
            for kept in 0..SHADES {
                for dropped in 0..SHADES {
                    let pair =
                        (palette.unit(State::Both as usize, kept), palette.unit(State::Neither as usize, dropped));
                    assert!(contrast(pair.0, pair.1) > 2.0, "{dark} {pair:?} {}", contrast(pair.0, pair.1));
                    for eye in [&NORMAL, &PROTAN, &DEUTAN, &TRITAN] {
                        let distance = distance(eye, pair.0, pair.1);
                        assert!(distance > 0.2, "{dark} {pair:?} {distance}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_four_states_of_a_comparison_differ_for_every_eye_and_in_grey() {
        for dark in [true, false] {
            let palette = Palette::new(dark, true);
            for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
                let pair = (palette.unit(a, 0), palette.unit(b, 0));
                assert!(contrast(pair.0, pair.1) > 1.7, "{dark} {a} {b} {}", contrast(pair.0, pair.1));
                for eye in [&NORMAL, &PROTAN, &DEUTAN, &TRITAN] {
                    assert!(distance(eye, pair.0, pair.1) > 0.12, "{dark} {a} {b} {}", distance(eye, pair.0, pair.1));
                }
            }
        }
    }

    #[test]
    fn a_mixed_pixel_lies_between_its_units() {
        let palette = Palette::new(true, false);
        assert_eq!(palette.mixed([0, 0, 0, 5], 63), palette.unit(3, 63));
        let even = palette.mixed([2, 0, 0, 2], 10);
        let (dropped, kept) = (palette.unit(0, 10), palette.unit(3, 10));
        assert!(luminance(dropped) < luminance(even) && luminance(even) < luminance(kept));
    }
}
