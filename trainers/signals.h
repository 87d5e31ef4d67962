#pragma once

namespace zoo {

/// From now on SIGINT and SIGTERM only ask the work to stop (`stop_requested`); a second one ends the process
/// at once with exit code 130. Installed even where both are ignored, as a shell does for what it starts in
/// the background: clusters and containers end their jobs by SIGTERM, and a run must not lose its last epoch
/// to that.
void install_signal_handlers();
bool stop_requested();
/// Forgets a request, for programs that go on after an Interrupted.
void reset_stop_request();

}  // namespace zoo
