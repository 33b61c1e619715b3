"""Why a start failed, and what to type next. Pure: text in, text out."""
