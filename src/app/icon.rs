//! The window's icon, drawn by formulas: open secateurs on a green field. `assets/icon.svg` is the same for desktops.

use eframe::egui::{IconData, Vec2};

/// Pixels of each side.
const SIZE: usize = 64;

/// The icon.
pub fn icon() -> IconData {
    let mut rgba = Vec::with_capacity(SIZE * SIZE * 4);
    for pixel in 0..SIZE * SIZE {
        let at = Vec2::new((pixel % SIZE) as f32 + 0.5, (pixel / SIZE) as f32 + 0.5);
        let (field, tool) = (coverage(field(at)), coverage(secateurs(at)));
        let mix = |back: f32, front: f32| (back + (front - back) * tool) as u8;
        rgba.extend([mix(44.0, 255.0), mix(122.0, 255.0), mix(82.0, 255.0), (field * 255.0) as u8]);
    }
    IconData { rgba, width: SIZE as u32, height: SIZE as u32 }
}

/// A signed distance in pixels to an opacity.
fn coverage(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

fn field(at: Vec2) -> f32 {
    let corner = 14.0;
    let beyond = (at - Vec2::splat(32.0)).abs() - Vec2::splat(30.0 - corner);
    beyond.max(Vec2::ZERO).length() - corner
}

/// Two blades that cross at a pivot, and handles that open below it.
fn secateurs(at: Vec2) -> f32 {
    let pivot = Vec2::new(32.0, 34.0);
    let strokes = [
        (pivot, Vec2::new(22.0, 10.0), 3.4),
        (pivot, Vec2::new(42.0, 10.0), 3.4),
        (pivot, Vec2::new(20.0, 54.0), 3.8),
        (pivot, Vec2::new(44.0, 54.0), 3.8),
    ];
    let tool = strokes.iter().map(|&(from, to, width)| segment(at, from, to) - width).fold(f32::INFINITY, f32::min);
    // The screw.
    tool.max(2.2 - (at - pivot).length())
}

fn segment(at: Vec2, from: Vec2, to: Vec2) -> f32 {
    let along = to - from;
    let share = ((at - from).dot(along) / along.length_sq()).clamp(0.0, 1.0);
    (at - from - along * share).length()
}
