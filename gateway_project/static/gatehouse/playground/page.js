// The playground's page: what is chosen on the left, its tools and the chat on the right.

import "./selection.js";
