//! Which channels a heatmap shows: a stretch of them, moved and scaled around a point that stays where it is.

use std::ops::RangeInclusive;

/// A stretch of channels. Invariant, after [`Window::fit`]: it lies within all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// First channel shown; a fraction of it may be cut off.
    pub start: f64,
    /// How many channels are shown.
    pub span: f64,
}

impl Default for Window {
    /// All channels, however many there will be.
    fn default() -> Window {
        Window { start: 0.0, span: f64::INFINITY }
    }
}

impl Window {
    /// Moves and scales it to lie within `total` channels and to show `least` at least.
    pub fn fit(&mut self, total: usize, least: f64) {
        let total = total.max(1) as f64;
        self.span = self.span.clamp(least.min(total), total);
        self.start = self.start.clamp(0.0, total - self.span);
    }

    /// Shows `factor` times fewer channels; the one at `anchor` (0 = left edge, 1 = right) stays there.
    pub fn zoom(&mut self, anchor: f64, factor: f64, total: usize, least: f64) {
        let fixed = self.start + anchor * self.span;
        self.span = (self.span / factor).clamp(least.min(total as f64), total as f64);
        self.start = fixed - anchor * self.span;
        self.fit(total, least);
    }

    /// Moves it just so far that `channel` is shown whole.
    pub fn reveal(&mut self, channel: usize) {
        self.start = self.start.min(channel as f64).max(channel as f64 + 1.0 - self.span);
    }

    /// Whether some of `total` channels are out of sight.
    pub fn zoomed(&self, total: usize) -> bool {
        self.span < total as f64
    }

    /// The channels that are shown at least in part.
    pub fn shown(&self, total: usize) -> RangeInclusive<usize> {
        let last = (self.start + self.span).ceil() as usize;
        self.start as usize..=last.min(total).saturating_sub(1)
    }

    /// The channel under a place, 0 = left edge, 1 = right.
    pub fn channel(&self, place: f64, total: usize) -> usize {
        ((self.start + place.clamp(0.0, 1.0) * self.span) as usize).min(total.saturating_sub(1))
    }

    /// The channels that share a pixel with one, of `width` pixels.
    pub fn beside(&self, channel: usize, width: usize, total: usize) -> (usize, usize) {
        let pixel = (self.place(channel as f64 + 0.5) * width as f64) as usize;
        self.bin(pixel.min(width.saturating_sub(1)), width, total)
    }

    /// Where a channel begins: 0 = left edge, 1 = right.
    pub fn place(&self, channel: f64) -> f64 {
        (channel - self.start) / self.span
    }

    /// Channels by pixel, for `width` pixels: never none, never one twice where there are more channels than pixels.
    pub fn bins(&self, width: usize, total: usize) -> Vec<(usize, usize)> {
        (0..width).map(|pixel| self.bin(pixel, width, total)).collect()
    }

    fn bin(&self, pixel: usize, width: usize, total: usize) -> (usize, usize) {
        // Edges that should be whole numbers are not always, by a rounding.
        let edge = |pixel: usize| (self.start + self.span * pixel as f64 / width as f64 + 1e-9) as usize;
        let from = edge(pixel).min(total.saturating_sub(1));
        (from, edge(pixel + 1).clamp(from + 1, total.max(from + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(total: usize) -> Window {
        let mut window = Window::default();
        window.fit(total, 10.0);
        window
    }

    #[test]
    fn the_point_under_the_cursor_stays_there() {
        let mut window = whole(1536);
        window.zoom(0.25, 4.0, 1536, 10.0);
        assert_eq!((window.span, window.channel(0.25, 1536)), (384.0, 384));
        assert_eq!(window.shown(1536), 288..=671);
    }

    #[test]
    fn it_never_leaves_the_channels() {
        let mut window = whole(1536);
        window.zoom(0.0, 1e9, 1536, 10.0);
        assert_eq!(window, Window { start: 0.0, span: 10.0 });
        window.start = 1e6;
        window.fit(1536, 10.0);
        assert_eq!(window.shown(1536), 1526..=1535);
        window.zoom(0.5, 1e-9, 1536, 10.0);
        assert!(!window.zoomed(1536));
        window.fit(4, 10.0);
        assert_eq!((window.shown(4), window.channel(1.0, 4)), (0..=3, 3));
    }

    #[test]
    fn a_channel_out_of_sight_is_brought_in() {
        let mut window = Window { start: 100.0, span: 10.0 };
        window.reveal(105);
        assert_eq!(window.start, 100.0);
        window.reveal(120);
        assert_eq!(window.start, 111.0);
        window.reveal(3);
        assert_eq!(window.start, 3.0);
    }

    #[test]
    fn bins_cover_every_channel_once() {
        for (total, width) in [(1536, 700), (14336, 333), (1000, 1000)] {
            let bins = whole(total).bins(width, total);
            assert_eq!((bins[0].0, bins[width - 1].1), (0, total));
            assert!(bins.windows(2).all(|pair| pair[0].1 == pair[1].0), "{total} in {width}");
        }
    }

    #[test]
    fn a_channel_wider_than_a_pixel_fills_several() {
        assert_eq!(whole(3).bins(6, 3), [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3), (2, 3)]);
        assert_eq!(whole(1).bins(2, 0), [(0, 1), (0, 1)], "no channels at all are no reason to panic");
    }
}
