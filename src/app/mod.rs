//! The window: state, panels, theme. Panels take state and return what the user wants; nothing here waits for a device.
